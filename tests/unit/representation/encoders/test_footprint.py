"""Memory estimates against sums done by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from adray.config import read_yaml, validate
from adray.representation.encoder_config import EncoderRunConfig
from adray.representation.encoders.dual_tower import DualTowerConfig
from adray.representation.encoders.factory import build_without_weights
from adray.representation.encoders.footprint import footprint
from adray.training.config import TrainingConfig

ROOT = Path(__file__).parents[4]


def test_shares_of_the_stages():
    encoder = build_without_weights(DualTowerConfig(modalities="copy", projection=10))
    # LayerNorm 2 x 384, 384 x 10 + 10, 10 x 384.
    trained = 768 + 3850 + 3840
    for stage, gradients, optimizer, weights in ((0, 1, 1, 1), (1, 1, 4, 1), (2, 4, 4, 1), (3, 4, 4, 4)):
        found = footprint(encoder, TrainingConfig(workers=4, batch_size=64, zero_stage=stage), 0)
        assert found.trainable == trained
        assert found.gradients == 4 * trained // gradients
        assert found.optimizer == 8 * trained // optimizer
        assert found.weights == 4 * found.parameters // weights
    half = footprint(encoder, TrainingConfig(workers=4, batch_size=64, zero_stage=2, precision="bf16"), 0)
    assert (half.weights, half.optimizer) == (2 * half.parameters, 12 * trained // 4)


def test_the_full_size_model_has_the_published_number_of_parameters():
    config = validate(EncoderRunConfig, read_yaml(ROOT / "configs" / "encoder-qwen3-vl-2b.yaml"), "test")
    encoder = build_without_weights(config.encoder)
    found = footprint(encoder, config.training, config.objective.chunk_rows)
    # Language model: 151,936 x 2,048 shared with the output layer; per block q, k, v, o, three of the MLP and four norms.
    block = 2048 * 2048 * 2 + 2 * 2048 * 1024 + 3 * 2048 * 6144 + 2 * 2048 + 2 * 128
    language = 151936 * 2048 + 28 * block + 2048
    # Rank 32 beside q (2048 -> 2048), k and v (2048 -> 1024), and the MLP's three.
    adapters = 28 * 32 * ((2048 + 2048) + 2 * (2048 + 1024) + 3 * (2048 + 6144))
    assert found.trainable == adapters
    vision = found.parameters - language - adapters
    # A ViT of 24 blocks and width 1,024, its mergers included, is about 0.4 of the 2.1 billion.
    assert 380e6 < vision < 430e6
    assert found.weights == 2 * found.parameters
    assert 5 < found.total / 2**30 < 24


def test_checkpointing_and_chunks_save_activations():
    config = validate(EncoderRunConfig, read_yaml(ROOT / "configs" / "encoder-tiny-mllm.yaml"), "test")
    encoder = build_without_weights(config.encoder)
    plain = footprint(encoder, config.training, 0).activations
    assert footprint(encoder, config.training, 16).activations == plain // 4
    recomputing = config.training.model_copy(update={"gradient_checkpointing": True})
    assert footprint(encoder, recomputing, 0).activations < plain


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": {"kind": "dual_tower"}}, "nothing of the encoder is trained"),
        ({"encoder": {"kind": "dual_tower", "modalities": "copy", "projection": 4}}, "modalities"),
        ({"encoder": {"kind": "dual_tower", "train_towers": True}}, "share no coordinates"),
        ({"training": {"batch_size": 64, "micro_batch_size": 16}}, "do not see each other"),
        ({"encoder": {"kind": "mllm"}}, "needs path"),
        ({"encoder": {"kind": "mllm", "architecture": {"text": {"heads": 3, "kv_heads": 2}}}}, "no multiple"),
        ({"pairs": {"path": "x", "views": ["same_sku", "same_sku"]}}, "twice"),
    ],
)
def test_configs_that_cannot_work(changes, words):
    values = {"kind": "encoder", "name": "n", "encoder": {"kind": "dual_tower", "projection": 8}, "pairs": {"path": "x"}, **changes}
    with pytest.raises(Exception, match=words):
        validate(EncoderRunConfig, values, "test")
