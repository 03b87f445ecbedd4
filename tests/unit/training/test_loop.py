"""The loop in this process: what it learns, writes, refuses and resumes."""

import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest
import torch

from adray.errors import ConfigError, DataError, TrainingError
from adray.training.checkpoint import list_checkpoints
from adray.training.config import TrackingConfig, TrainingConfig
from adray.training.deepspeed_strategy import import_deepspeed
from adray.training.fit import fit
from adray.training.module import TrainModule
from adray.training.reporter import TrainingStoppedError
from adray.training.resume import check_convertible
from adray.training.tracking import read_metrics
from tests.helpers.synthetic_training import Regressor, SyntheticTask, exported_weights, global_rows, rows_by_step

BASE = {"epochs": 2, "batch_size": 32, "log_every": 5, "checkpoint_every": 4}


def _fit(folder, task=None, resume=False, seed=1, **config):
    task, config = task or SyntheticTask(), TrainingConfig(**{**BASE, **config})
    return fit(task, config, run_folder=folder, run_name="synthetic", seed=seed, resume=resume, quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, _fit(folder)


def test_a_run_leaves_metrics_checkpoints_config_and_artifact(finished):
    folder, result = finished
    assert (result.steps, result.epochs, result.world_size) == (20, 2, 1)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-00000016", "step-00000020"]
    assert json.loads((folder / "deepspeed.json").read_text())["train_micro_batch_size_per_gpu"] == 32
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 20]
    assert rows[-1]["test/mse"] == pytest.approx(result.metrics["test/mse"])
    assert all(0 <= row["speed/data_wait_share"] <= 1 and row["speed/rows_per_s"] > 0 for row in rows[:-1])
    assert result.export_folder == folder / "export"
    assert set(exported_weights(folder)) >= {"net.0.weight", "seen"}
    assert exported_weights(folder)["seen"].item() == 20 * 32, "the dry batch left no trace in the buffers"


def test_the_same_seed_gives_the_same_weights_as_a_bare_torch_loop(finished):
    """An independent implementation: plain torch, no DeepSpeed, the same data and random draws."""
    folder, _ = finished
    torch.manual_seed(1)
    module = Regressor(SyntheticTask())
    torch.manual_seed(2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    for step in range(20):
        optimizer.zero_grad()
        module(global_rows(step // 10, step % 10, 32))["loss"].backward()
        optimizer.step()
    for name, value in exported_weights(folder).items():
        if name.startswith("net"):
            torch.testing.assert_close(value, module.state_dict()[name], rtol=0, atol=1e-7)


def test_accumulation_changes_nothing_but_rounding(finished, tmp_path):
    plain = _fit(tmp_path / "plain", SyntheticTask(dropout=0.0), max_steps=6)
    split = _fit(tmp_path / "split", SyntheticTask(dropout=0.0), max_steps=6, micro_batch_size=8)
    assert split.steps == plain.steps == 6
    one, other = exported_weights(tmp_path / "plain"), exported_weights(tmp_path / "split")
    for name in ("net.0.weight", "net.3.weight"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)


def test_sigterm_makes_a_checkpoint_and_the_resumed_run_ends_bit_by_bit_the_same(finished, tmp_path):
    folder, _ = finished
    log = str(tmp_path / "rows")
    with pytest.raises(TrainingStoppedError, match=r"step 14.*resume=true"):
        _fit(tmp_path, SyntheticTask(stop_at_step=13, log_rows=log))
    rows_before = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows_before] == [5, 10]
    with pytest.raises(ConfigError, match="already holds checkpoints"):
        _fit(tmp_path)
    _fit(tmp_path, SyntheticTask(log_rows=log), resume=True)
    expected, found = exported_weights(folder), exported_weights(tmp_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert rows_by_step(log) == {step: global_rows(step // 10, step % 10, 32).numbers.tolist() for step in range(20)}
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [5, 10, 15, 20, 20]


def test_a_finished_run_can_be_resumed_and_is_evaluated_again(finished):
    folder, result = finished
    again = _fit(folder, resume=True)
    assert again.steps == 20
    assert again.metrics["test/mse"] == pytest.approx(result.metrics["test/mse"], abs=1e-7)


def test_a_finished_run_is_not_resumed_with_settings_that_would_have_changed_it(finished):
    folder, _ = finished
    line = r"cannot resume from .*step-00000020: the config says lr=0\.5, the checkpoint was made with 0\.001; set it back"
    with pytest.raises(ConfigError, match=line):
        _fit(folder, resume=True, lr=0.5)
    assert _fit(folder, resume=True, checkpoint_every=7, num_to_keep=3).steps == 20


def test_the_log_says_where_deepspeeds_settings_are(tmp_path, caplog):
    with caplog.at_level("INFO", logger="adray"):
        _fit(tmp_path, max_steps=1)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "adray.training.fit"]
    assert line == f"DeepSpeed's settings are written to {tmp_path / 'deepspeed.json'}"
    assert json.loads((tmp_path / "deepspeed.json").read_text())["train_micro_batch_size_per_gpu"] == 32


def _told_of_two_workers(folder):
    """Make the last checkpoint say that two workers wrote it."""
    path = list_checkpoints(folder / "checkpoints")[-1].folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "world_size": 2}))


def test_zero_3_with_frozen_weights_that_change_is_not_taken_to_another_number_of_workers(tmp_path):
    """The regressor's slow copy is frozen and moves in `after_step`: ZeRO-3 shards it, and its conversion leaves it behind."""
    with pytest.raises(TrainingStoppedError):
        _fit(tmp_path, SyntheticTask(stop_at_step=5), zero_stage=3)
    _told_of_two_workers(tmp_path)
    with pytest.raises(TrainingError, match=r"ZeRO-3 run whose module .* another number of workers; .* training\.zero_stage=2") as caught:
        _fit(tmp_path, resume=True, zero_stage=3)
    assert "\n" not in str(caught.value)


def test_only_zero_3_with_hooks_and_frozen_weights_is_refused():
    hooked = Regressor(SyntheticTask())
    check_convertible(hooked, TrainingConfig(zero_stage=2))
    with pytest.raises(TrainingError, match="as many workers as before"):
        check_convertible(hooked, TrainingConfig(zero_stage=3))
    check_convertible(hooked.requires_grad_(True), TrainingConfig(zero_stage=3))

    class Plain(TrainModule):
        def __init__(self):
            super().__init__()
            self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)

        def forward(self, batch):
            return {}

        def export(self, folder):
            pass

    check_convertible(Plain(), TrainingConfig(zero_stage=3))


def test_a_checkpoint_without_deepspeeds_state_is_refused(tmp_path):
    with pytest.raises(TrainingStoppedError):
        _fit(tmp_path, SyntheticTask(stop_at_step=5), zero_stage=1)
    saved = list_checkpoints(tmp_path / "checkpoints")[-1]
    shutil.rmtree(saved.folder / "deepspeed")
    left = {name: size for name, size in saved.metadata["files"].items() if not name.startswith("deepspeed/")}
    (saved.folder / "metadata.json").write_text(json.dumps({**saved.metadata, "files": left}))
    with pytest.raises(TrainingError, match="holds no DeepSpeed state; remove this checkpoint and resume from an older one"):
        _fit(tmp_path, resume=True, zero_stage=1)


def test_deepspeed_for_the_other_kind_of_device_is_refused():
    """This process's DeepSpeed is the CPU's."""
    import_deepspeed(gpus=False)
    with pytest.raises(TrainingError, match="DeepSpeed runs on cpu but the run wants cuda; export DS_ACCELERATOR=cuda"):
        import_deepspeed(gpus=True)


def test_rows_after_the_checkpoint_are_dropped_when_work_was_lost(tmp_path):
    with pytest.raises(TrainingError, match="KeyError.*price"):
        _fit(tmp_path, SyntheticTask(error_at_step=7), log_every=1)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6, 7]
    assert "no such column: price" in (tmp_path / "error.log").read_text()
    _fit(tmp_path, log_every=1, resume=True)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [*range(1, 21), 20]
    assert not (tmp_path / "error.log").exists()


def test_a_bad_loss_names_step_and_rank(tmp_path):
    with pytest.raises(TrainingError, match="loss is nan at step 7 on rank 0"):
        _fit(tmp_path, SyntheticTask(nan_at_step=6))
    assert "loss is nan" in (tmp_path / "error.log").read_text()


def test_data_that_ends_before_its_time_is_an_error(tmp_path):
    with pytest.raises(DataError, match="ended within epoch 0 at step 9"):
        _fit(tmp_path, SyntheticTask(end_early=True))


def test_evaluation_in_between_does_not_change_training(finished, tmp_path):
    folder, _ = finished
    _fit(tmp_path, evaluate_every=1, checkpoint_async=True)
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "test/mse" in row]
    assert [row["step"] for row in rows] == [10, 20]
    expected, found = exported_weights(folder), exported_weights(tmp_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_bf16_autocast_trains_in_bf16_and_evaluates_in_fp32(tmp_path):
    seen = []

    class Watching(Regressor):
        def forward(self, batch):
            outputs = super().forward(batch)
            seen.append((self.training, self.net[0](batch.x).dtype))
            return outputs

        def evaluate(self, batches):
            self.forward(next(iter(batches)))
            return {}

    class Task(SyntheticTask):
        def build_module(self):
            return Watching(self)

    _fit(tmp_path, Task(), precision="bf16_mixed", max_steps=2, ema_decay=0.5, clip_norm=0.1)
    assert (True, torch.bfloat16) in seen
    assert (False, torch.float32) in seen
    assert (True, torch.float32) not in seen
    assert exported_weights(tmp_path)["net.0.weight"].dtype == torch.float32


def test_the_averaged_weights_are_what_is_exported(tmp_path):
    _fit(tmp_path / "own", max_steps=5)
    _fit(tmp_path / "average", max_steps=5, ema_decay=0.999)
    torch.manual_seed(1)
    start = Regressor(SyntheticTask()).state_dict()["net.0.weight"]
    own, average = (exported_weights(tmp_path / name)["net.0.weight"] for name in ("own", "average"))
    assert (own - start).abs().max() > 1e-3
    # After five steps of at most lr each, an average of 0.999 has moved by less than 1 % of a step.
    assert 0 < (average - start).abs().max() < 2e-5


class _Broken:
    def metrics(self, step, values):
        raise ConnectionError("the tracker's server is gone")

    def close(self, failed):
        raise AssertionError("a tracker that was switched off is not called again")


def test_a_dead_tracker_is_one_warning_and_the_run_ends_well(tmp_path, monkeypatch, caplog):
    import adray.training.wandb_tracker

    monkeypatch.setattr(adray.training.wandb_tracker, "WandbTracker", lambda *args: _Broken())
    result = _fit(tmp_path, max_steps=10, tracking=TrackingConfig(wandb="offline"))
    assert result.steps == 10
    warnings = [r.getMessage() for r in caplog.records if r.name == "adray.training.tracking"]
    assert len(warnings) == 1
    assert "tracker _Broken is switched off" in warnings[0]
    assert "server is gone" in warnings[0]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [5, 10, 10]


def test_online_tracking_without_a_key_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        _fit(tmp_path, tracking=TrackingConfig(wandb="online"))


def test_relative_paths_and_a_thread_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    box = []
    thread = threading.Thread(target=lambda: box.append(_fit("relative", max_steps=2)))
    thread.start()
    thread.join(60)
    assert box[0].export_folder == tmp_path / "relative" / "export"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_environment_is_left_as_it_was(finished):
    assert not torch.distributed.is_initialized()
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & set(os.environ)
    assert np.isfinite(finished[1].metrics["train/loss"])
