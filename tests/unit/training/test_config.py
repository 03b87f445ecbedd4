"""The training section: batch arithmetic, refusals, fingerprint, DeepSpeed's JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adray.config import validate
from adray.errors import ConfigError
from adray.training.checks import batch_arithmetic
from adray.training.config import TrainingConfig
from adray.training.deepspeed_strategy import DeepSpeedStrategy, deepspeed_config


@given(micro=st.integers(1, 64), accumulation=st.integers(1, 8), workers=st.integers(1, 8))
def test_the_three_factors_give_the_global_batch(micro, accumulation, workers):
    batch = micro * accumulation * workers
    config = TrainingConfig(batch_size=batch, micro_batch_size=micro, workers=workers)
    assert config.micro_batch(workers) == (micro, accumulation)
    assert TrainingConfig(batch_size=batch, workers=workers).micro_batch(workers) == (batch // workers, 1)


def test_the_arithmetic_is_spelt_out_for_every_worker_count():
    config = TrainingConfig(batch_size=512, micro_batch_size=128, workers=(1, 2))
    assert batch_arithmetic(config) == "512 = 128 micro x 4 accumulation x 1 worker; 512 = 128 micro x 2 accumulation x 2 workers"
    assert list(config.world_sizes()) == [1, 2]
    assert list(TrainingConfig(workers=0).world_sizes()) == [1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_size": 100, "workers": 3}, ["batch_size 100", "3 workers", "multiple of 3"]),
        ({"batch_size": 96, "workers": [1, 4], "micro_batch_size": 24}, ["96", "2 workers", "micro_batch_size 24"][:1]),
        ({"batch_size": 90, "micro_batch_size": 40}, ["90", "micro_batch_size 40"]),
        ({"precision": "bf16"}, ["zero_stage", "bf16_mixed"]),
        ({"optimizer": "adagrad", "zero_stage": 1}, ["adagrad", "zero_stage 0"]),
        ({"ema_decay": 0.9, "zero_stage": 3}, ["ema_decay", "zero_stage"]),
        ({"workers": [3, 2]}, ["[3, 2]", "min <= max"]),
        ({"workers": -1}, ["-1"]),
        ({"learning_rate": 1}, ["learning_rate"]),
    ],
)
def test_what_cannot_work_is_one_line_with_the_cure(values, words):
    with pytest.raises(ConfigError) as caught:
        validate(TrainingConfig, values, "x.yaml")
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_the_fingerprint_holds_what_a_checkpoint_depends_on():
    config = TrainingConfig()
    free = {"epochs": 7, "max_steps": 9, "workers": 2, "log_every": 3, "checkpoint_every": 5, "tracking": {"project": "other"}}
    assert config.fingerprint() == TrainingConfig(**free).fingerprint()
    for change in ({"batch_size": 512}, {"optimizer": "sgd"}, {"zero_stage": 1}, {"precision": "bf16_mixed"}, {"lr": 0.5}, {"warmup": 0.1}):
        assert TrainingConfig(**change).fingerprint() != config.fingerprint(), change


def test_deepspeed_json_has_micro_and_accumulation_only_and_nothing_automatic():
    config = TrainingConfig(batch_size=512, micro_batch_size=64, workers=2, zero_stage=2, clip_norm=0.5, precision="bf16")
    made = deepspeed_config(config, 2)
    assert made["train_micro_batch_size_per_gpu"] == 64
    assert made["gradient_accumulation_steps"] == 4
    assert "train_batch_size" not in made
    assert made["gradient_clipping"] == 0.5
    assert made["zero_optimization"]["stage"] == 2
    assert made["bf16"] == {"enabled": True}
    assert made["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "auto" not in json.dumps(made)
    assert "checkpoint" not in made
    assert deepspeed_config(config, 1, universal=True)["checkpoint"] == {"load_universal": True}
    assert deepspeed_config(config, 1)["gradient_accumulation_steps"] == 8
    assert "bf16" not in deepspeed_config(TrainingConfig(precision="bf16_mixed"), 1)


def test_deepspeed_itself_accepts_the_json():
    from adray.training.deepspeed_strategy import import_deepspeed

    import_deepspeed(False)
    from deepspeed.runtime.config import DeepSpeedConfig

    config = TrainingConfig(batch_size=512, micro_batch_size=64, zero_stage=1, clip_norm=1.0)
    parsed = DeepSpeedConfig(deepspeed_config(config, 1))
    assert (parsed.train_batch_size, parsed.train_micro_batch_size_per_gpu, parsed.gradient_accumulation_steps) == (512, 64, 8)
    assert parsed.gradient_clipping == 1.0
    assert parsed.zero_optimization_stage == 1


def test_only_sharded_state_of_another_world_size_is_converted():
    sharded = DeepSpeedStrategy(TrainingConfig(zero_stage=1))
    assert sharded.must_convert(2, 1)
    assert not sharded.must_convert(2, 2)
    assert not DeepSpeedStrategy(TrainingConfig()).must_convert(2, 1)
