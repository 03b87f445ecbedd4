"""Dry run, meter, random state, activation checkpointing, progress and error classes."""

import errno
import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from adray.errors import ConfigError, ResourceError, TrainingError
from adray.training.activation_checkpointing import checkpoint_activations
from adray.training.checks import training_checks
from adray.training.config import TrackingConfig, TrainingConfig
from adray.training.distributed import World, random_state, seed_everything, set_random_state, untouched_randomness
from adray.training.dry_run import dry_run
from adray.training.meter import Meter
from adray.training.optimizers import build_optimizer
from adray.training.progress import done_share, row_text
from adray.training.resources import check_fits_cluster
from adray.training.tracking import JsonLines, read_metrics
from tests.helpers.synthetic_training import Regressor, Rows, SyntheticTask, global_rows

ALONE = World(0, 1, torch.device("cpu"))


def _draw():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.standard_normal(), torch.rand(1).item()


def test_random_state_restores_every_generator():
    seed_everything(5)
    _draw()
    state = {name: tensor.clone() for name, tensor in random_state().items()}
    expected = [_draw(), _draw()]
    set_random_state(state)
    assert [_draw(), _draw()] == expected
    set_random_state(state)
    with untouched_randomness():
        _draw()
    assert _draw() == expected[0]


def test_a_dry_run_leaves_weights_gradients_buffers_and_generators_alone():
    seed_everything(3)
    module = Regressor(SyntheticTask())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    following = _draw()
    seed_everything(3)
    module = Regressor(SyntheticTask())
    dry_run(module, global_rows(0, 0, 8), TrainingConfig(batch_size=8), ALONE)
    assert _draw() == following
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_a_dry_run_shows_wrong_shapes_and_unusable_losses():
    module, config = Regressor(SyntheticTask()), TrainingConfig(batch_size=8)
    narrow = Rows(torch.zeros(8, 3), torch.zeros(8), torch.zeros(8))
    with pytest.raises(TrainingError, match="first batch: RuntimeError.*shapes cannot be multiplied"):
        dry_run(module, narrow, config, ALONE)
    for outputs, words in (({}, "'loss'"), ({"loss": torch.zeros(2)}, "scalar"), ({"loss": torch.zeros(())}, "trainable")):
        module.forward = lambda batch, outputs=outputs: outputs
        with pytest.raises(TrainingError, match=words):
            dry_run(module, narrow, config, ALONE)
    bad = torch.tensor(float("inf"), requires_grad=True)
    module.forward = lambda batch: {"loss": bad}
    with pytest.raises(TrainingError, match="loss is inf on the very first batch.*rank 0"):
        dry_run(module, narrow, config, ALONE)


def test_the_meter_averages_scalars_and_leaves_out_the_rest():
    meter = Meter(ALONE, batch_size=10)
    for value in (1.0, 2.0, 6.0):
        meter.add({"loss": torch.tensor(value), "auc": torch.tensor(value if value != 2.0 else float("nan")), "logits": torch.zeros(3)})
        meter.step_done()
    assert meter.first_bad_loss() is None
    row = meter.row()
    assert row["train/loss"] == pytest.approx(3.0)
    assert row["train/auc"] == pytest.approx(3.5), "a value that is not finite is left out"
    assert "train/logits" not in row
    assert row["speed/rows_per_s"] == pytest.approx(10 / row["speed/step_seconds"])
    assert meter.total_steps == 3
    meter.add({"loss": torch.tensor(5.0)})
    assert meter.row()["train/loss"] == 5.0


def test_the_meter_finds_the_first_bad_loss():
    meter = Meter(ALONE, batch_size=1)
    for value in (1.0, float("nan"), float("inf"), 2.0):
        meter.add({"loss": torch.tensor(value)})
    assert meter.first_bad_loss() == 3


def test_activation_checkpointing_gives_the_same_gradients_and_runs_blocks_twice():
    calls = []

    class Block(nn.Module):
        checkpoint_activations = True

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            calls.append(1)
            return torch.tanh(self.linear(x))

    torch.manual_seed(0)
    module, x = nn.Sequential(Block(), Block()), torch.randn(3, 4)
    module(x).sum().backward()
    expected, once = [p.grad.clone() for p in module.parameters()], len(calls)
    module.zero_grad()
    calls.clear()
    assert checkpoint_activations(module) == 2
    module(x).sum().backward()
    assert len(calls) == 2 * once
    assert all(torch.equal(p.grad, e) for p, e in zip(module.parameters(), expected, strict=True))
    with pytest.raises(ConfigError, match="no blocks"):
        checkpoint_activations(nn.Linear(2, 2))


def test_optimizers_honour_the_groups_own_settings():
    weight, bias = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
    groups = [{"params": iter([weight]), "lr": 0.5}, {"params": [bias], "weight_decay": 0.0}, {"params": []}]
    config = TrainingConfig(lr=0.1, weight_decay=0.3, betas=(0.8, 0.95))
    optimizer = build_optimizer(groups, config, torch.device("cpu"))
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.5, 0.3), (0.1, 0.0)]
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.95)
    assert optimizer.param_groups[0]["fused"]
    sgd = build_optimizer([{"params": [bias]}], TrainingConfig(optimizer="sgd"), torch.device("cpu"))
    assert sgd.param_groups[0]["momentum"] == 0.9
    assert isinstance(build_optimizer([{"params": [bias]}], TrainingConfig(optimizer="adagrad"), torch.device("cpu")), torch.optim.Adagrad)
    with pytest.raises(ConfigError, match="no trainable parameters"):
        build_optimizer([{"params": []}], config, torch.device("cpu"))


def test_json_lines_survive_a_cut_off_line_and_values_that_are_not_numbers(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLines(path, 0)
    tracker.metrics(1, {"a": 1.5, "b": float("nan")})
    tracker.close(failed=False)
    with path.open("a") as stream:
        stream.write('{"step": 2, "a"')
    rows = read_metrics(path)
    assert [(row["step"], row["a"], row["b"]) for row in rows] == [(1, 1.5, None)]
    json.loads(path.read_text().splitlines()[0], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    JsonLines(path, 1).close(failed=False)
    assert len(path.read_text().splitlines()) == 1


def test_progress_is_the_share_of_the_run_in_epochs_or_steps():
    row = {"step": 30, "epoch": 0.5, "train/loss": 0.25, "speed/rows_per_s": 12345.6, "speed/data_wait_share": 0.031}
    assert row_text(row) == "epoch 0.50  loss 0.2500  12,346 rows/s  waiting for data 3%"
    assert done_share(row, TrainingConfig(epochs=2)) == 0.25
    assert done_share(row, TrainingConfig()) == 0.5
    assert done_share(row, TrainingConfig(max_steps=40)) == 0.75
    assert done_share(row, TrainingConfig(max_steps=40, epochs=1)) == 0.75


@pytest.mark.parametrize(
    ("config", "resources", "words"),
    [
        ({"workers": 4}, {"CPU": 4.0}, ["4 workers x 1 CPUs + 1 for data = 5 of 4 CPUs"]),
        ({"workers": (2, 8), "cpus_per_worker": 2, "batch_size": 840}, {"CPU": 4.0}, ["2 workers x 2 CPUs + 1 for data = 5 of 4 CPUs"]),
        ({"workers": 2, "gpus": True}, {"CPU": 8.0, "GPU": 1.0}, ["2 GPUs", "has 1"]),
    ],
)
def test_workers_that_can_never_be_placed_are_refused_with_the_sum(config, resources, words):
    with pytest.raises(ResourceError) as caught:
        check_fits_cluster(TrainingConfig(**config), resources)
    assert all(word in str(caught.value) for word in words), caught.value


def test_workers_that_fit_are_summed_up():
    assert check_fits_cluster(TrainingConfig(workers=3, batch_size=300), {"CPU": 4.0}) == "3 workers x 1 CPUs + 1 for data = 4 of 4 CPUs"
    assert "2 of 2 GPUs" in check_fits_cluster(TrainingConfig(workers=2, gpus=True), {"CPU": 8.0, "GPU": 2.0})


def _checks(config, **given):
    return {check.name: check for check in training_checks(config, **given)}


def test_checks_pass_for_a_sound_config(tmp_path):
    checks = _checks(TrainingConfig(batch_size=512, workers=(1, 2)), lanes=8, run_folder=tmp_path / "runs" / "a", parameters=10**6)
    assert [name for name, check in checks.items() if check.error] == []
    assert "512 = 256 micro x 1 accumulation x 2 workers" in checks["batch arithmetic"].detail
    assert "1,000,000 parameters x 16 bytes" in checks["training memory"].detail
    assert "0.01 GiB" in checks["training memory"].detail
    assert "deepspeed 0.19" in checks["training versions"].detail


def test_checks_name_what_will_not_work(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = TrainingConfig(batch_size=504, workers=(1, 3), tracking=TrackingConfig(wandb="online"))
    checks = _checks(config, lanes=8, run_folder="/proc/nowhere", parameters=10**14)
    failed = {name for name, check in checks.items() if check.error}
    assert failed == {"data lanes", "checkpoint storage", "training memory", "tracker"}
    for name in failed:
        assert "\n" not in str(checks[name].error)


def test_sharding_divides_the_memory_estimate():
    details = [_checks(TrainingConfig(workers=4, zero_stage=stage), parameters=2**30)["training memory"].detail for stage in range(4)]
    # 16 bytes; 4 + 4 + 8/4; 4 + 4/4 + 8/4; 16/4, for 2^30 parameters in GiB.
    for detail, gib in zip(details, ("16.00", "10.00", "7.00", "4.00"), strict=True):
        assert f"{gib} GiB per worker" in detail


def test_errors_of_a_worker_are_told_from_those_of_its_peers():
    from adray.training.ray_workers import LostPeerError, _classified, _own_error

    lost = _classified(RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234"))
    assert isinstance(lost, LostPeerError)
    assert _own_error(lost) is None
    own = _classified(KeyError("price"))
    assert isinstance(own, TrainingError)
    assert "KeyError: 'price'" in str(own)
    assert isinstance(_classified(RuntimeError("mat1 and mat2 shapes cannot be multiplied")), TrainingError)
    passing, lasting = OSError(errno.EIO, "input/output error"), OSError(errno.ENOSPC, "no space left on device")
    assert _classified(passing) is passing
    assert isinstance(_classified(lasting), TrainingError)

    class WrappedError(Exception):
        def __init__(self, inner):
            self._base_exc = inner

    assert _own_error(WrappedError(own)) is own
