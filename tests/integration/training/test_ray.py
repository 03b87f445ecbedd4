"""The trainer in real Ray workers. Each fit takes a while, so runs are shared."""

from pathlib import Path

import pytest
import torch

from adray.errors import ResourceError, TrainingError
from adray.training.checkpoint import list_checkpoints
from adray.training.config import TrainingConfig
from adray.training.fit import fit
from adray.training.tracking import read_metrics
from tests.helpers.synthetic_training import SyntheticTask, exported_weights, global_rows, rows_by_step
from tests.helpers.torchrun import torchrun_fit

BASE = {"epochs": 2, "batch_size": 32, "log_every": 2, "checkpoint_every": 4}
SHARDED = {"workers": 2, "zero_stage": 1}
EVERY_ROW = {step: global_rows(step // 10, step % 10, 32).numbers.tolist() for step in range(20)}


def _fit(folder, task=None, resume=False, **config):
    given = TrainingConfig(**{**BASE, **config})
    return fit(task or SyntheticTask(), given, run_folder=folder, run_name="synthetic", seed=1, resume=resume, quiet=True)


def _losses(folder):
    return {row["step"]: row["train/loss"] for row in read_metrics(Path(folder) / "metrics.jsonl") if "train/loss" in row}


def _assert_same(one, other, tolerance):
    for name, value in exported_weights(one).items():
        if name != "seen":
            torch.testing.assert_close(
                value, exported_weights(other)[name], rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}"
            )


@pytest.fixture(scope="module")
def uninterrupted(ray_cluster, tmp_path_factory):
    """Two Ray workers, ZeRO-1, dropout, from a relative path."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        result = _fit(folder.name, SyntheticTask(log_rows=str(folder / "rows")), **SHARDED)
    return folder, result


def test_two_workers_share_every_steps_rows(uninterrupted):
    folder, result = uninterrupted
    assert (result.steps, result.world_size) == (20, 2)
    assert rows_by_step(folder / "rows") == EVERY_ROW
    assert {path.name for path in folder.glob("rows-*")} == {"rows-0.jsonl", "rows-1.jsonl"}
    last = list_checkpoints(folder / "checkpoints")[-1]
    assert (last.step, last.metadata["world_size"], last.metadata["zero_stage"]) == (20, 2, 1)
    files = set(last.metadata["files"])
    assert {"rank-00000-random.safetensors", "rank-00001-random.safetensors"} <= files
    assert sum("optim_states" in name for name in files) == 2, files
    assert result.metrics["test/mse"] > 0


def test_a_worker_killed_within_an_epoch_changes_nothing(uninterrupted, tmp_path):
    """Step 14 is lost with its worker; the group restarts from step 12 and ends bit by bit where the other run did."""
    folder, _ = uninterrupted
    marker = tmp_path / "killed"
    result = _fit(tmp_path / "run", SyntheticTask(kill_at_step=14, kill_once=str(marker)), **SHARDED)
    assert marker.exists(), "the worker was not killed"
    assert result.steps == 20
    _assert_same(folder, tmp_path / "run", tolerance=0)
    assert _losses(folder) == _losses(tmp_path / "run")


def test_a_bad_loss_ends_the_run_at_once_and_names_step_and_rank(ray_cluster, tmp_path):
    with pytest.raises(TrainingError, match="loss is nan at step 3 on rank 1") as caught:
        _fit(tmp_path, SyntheticTask(nan_at_step=2, nan_on_rank=1), workers=2)
    assert "\n" not in str(caught.value)
    log = (tmp_path / "error.log").read_text()
    assert "_raise_bad_loss" in log
    assert log.count("rank 1 on") == 1, "it was not tried again"


def test_local_mode_ray_and_torchrun_give_the_same_losses(ray_cluster, tmp_path):
    _fit(tmp_path / "local", workers=0)
    _fit(tmp_path / "ray", workers=1)
    done = torchrun_fit(1, tmp_path / "torchrun", config=BASE)
    assert done.returncode == 0, done.stderr
    assert _losses(tmp_path / "local") == _losses(tmp_path / "ray") == _losses(tmp_path / "torchrun")
    _assert_same(tmp_path / "local", tmp_path / "ray", tolerance=0)
    _assert_same(tmp_path / "local", tmp_path / "torchrun", tolerance=0)


def test_two_one_two_workers_through_universal_checkpoints(tmp_path):
    """Dropout is off: its draws depend on the number of workers. What is left is the order of floating-point sums."""
    task, log = {"dropout": 0.0}, str(tmp_path / "rows")
    straight = torchrun_fit(2, tmp_path / "straight", task=task, config={**BASE, **SHARDED})
    assert straight.returncode == 0, straight.stderr
    first = torchrun_fit(2, tmp_path / "run", task={**task, "stop_at_step": 5, "log_rows": log}, config={**BASE, **SHARDED})
    assert "TrainingStoppedError: training was stopped at step 6" in first.stderr
    # One process, without Ray or torchrun.
    with pytest.raises(TrainingError, match="stopped at step 13"):
        _fit(tmp_path / "run", SyntheticTask(**task, stop_at_step=12, log_rows=log), resume=True, workers=0, zero_stage=1)
    last = torchrun_fit(2, tmp_path / "run", task={**task, "log_rows": log}, config={**BASE, **SHARDED}, resume=True)
    assert last.returncode == 0, last.stderr
    assert rows_by_step(log) == EVERY_ROW, "the same rows in the same steps at any number of workers, none twice"
    _assert_same(tmp_path / "straight", tmp_path / "run", tolerance=1e-6)
    steps = sorted(p.name for p in (tmp_path / "run" / "checkpoints" / "converted").iterdir())
    assert set(steps) <= {c.folder.name for c in list_checkpoints(tmp_path / "run" / "checkpoints")}


def test_workers_that_do_not_fit_are_refused_before_ray_would_wait_for_them(ray_cluster, tmp_path):
    with pytest.raises(ResourceError, match="16 workers x 1 CPUs .* of 8 CPUs"):
        _fit(tmp_path, workers=16)
