"""The checkpoint store: complete or absent, never half."""

import json
import os
import resource
import signal
import threading

import pytest
import torch

from adray.errors import ConfigError, DataError, TrainingError
from adray.training.checkpoint import CheckpointStore, list_checkpoints
from adray.training.config import TrainingConfig
from adray.training.distributed import World
from adray.training.resume import Position, check_fits

ALONE = World(0, 1, torch.device("cpu"))


def _store(folder, **changes):
    return CheckpointStore(folder, ALONE, **{"num_to_keep": 2, "in_background": False, "timeout_s": 5, **changes})


def _save(store, step, size=4, engine=None):
    def save_engine(folder, write):
        write("deepspeed/rank_00_state.pt", {"weights": torch.full((size,), float(step)), "nested": [{"lr": 0.1}]})

    store.save(step, {"epoch": 0}, {"random": {"torch": torch.arange(3)}}, engine or save_engine)


@pytest.mark.parametrize("in_background", [False, True])
def test_a_saved_checkpoint_is_found_with_all_it_holds(tmp_path, in_background):
    store = _store(tmp_path, in_background=in_background)
    assert store.latest() is None
    _save(store, 7)
    store.finish()
    found = store.latest()
    assert found.step == 7
    assert found.folder.name == "step-00000007"
    assert found.metadata["world_size"] == 1
    assert found.rank_tensors(0, "random")["torch"].tolist() == [0, 1, 2]
    assert found.rank_tensors(1, "random") is None
    state = torch.load(found.folder / "deepspeed" / "rank_00_state.pt", weights_only=True)
    assert state["weights"].tolist() == [7.0] * 4
    assert state["nested"] == [{"lr": 0.1}]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000007"]


def test_a_view_is_saved_without_the_storage_it_looks_into(tmp_path):
    def save_engine(folder, write):
        write("deepspeed/rank_00_state.pt", {"slice": torch.zeros(1_000_000)[:10]})

    store = _store(tmp_path)
    _save(store, 1, engine=save_engine)
    assert (store.latest().folder / "deepspeed" / "rank_00_state.pt").stat().st_size < 10_000


def test_what_changes_after_save_does_not_reach_a_checkpoint_in_flight(tmp_path):
    weights, gate = torch.ones(3), threading.Event()

    class Slow:
        """Pickles only when let through, as a slow disk would."""

        def __reduce__(self):
            assert gate.wait(10)
            return (str, ("slow",))

    def save_engine(folder, write):
        write("deepspeed/rank_00_state.pt", {"slow": Slow(), "weights": weights})

    store = _store(tmp_path, in_background=True)
    _save(store, 1, engine=save_engine)
    weights.zero_()
    assert not (tmp_path / "step-00000001").exists()
    gate.set()
    store.finish()
    state = torch.load(tmp_path / "step-00000001" / "deepspeed" / "rank_00_state.pt", weights_only=False)
    assert state["weights"].tolist() == [1.0] * 3


def test_only_the_newest_are_kept(tmp_path):
    store = _store(tmp_path, num_to_keep=2)
    (tmp_path / "converted" / "step-00000001").mkdir(parents=True)
    for step in (1, 2, 3, 4):
        _save(store, step)
    assert [c.step for c in list_checkpoints(tmp_path)] == [3, 4]
    assert list((tmp_path / "converted").iterdir()) == []


def test_unfinished_and_damaged_ones_are_passed_over(tmp_path):
    store = _store(tmp_path, num_to_keep=5)
    for step in (1, 2, 3):
        _save(store, step)
    (tmp_path / "step-00000009.partial").mkdir()
    with (tmp_path / "step-00000003" / "deepspeed" / "rank_00_state.pt").open("r+b") as stream:
        stream.truncate(10)
    (tmp_path / "step-00000002" / "metadata.json").write_text("{")
    assert store.latest().step == 1
    assert not (tmp_path / "step-00000009.partial").exists()


def test_a_checkpoint_with_a_foreign_file_or_foreign_metadata_is_not_loaded(tmp_path):
    store = _store(tmp_path)
    _save(store, 1)
    _save(store, 2)
    (tmp_path / "step-00000002" / "deepspeed" / "rank_01_state.pt").write_bytes(b"planted")
    assert store.latest().step == 1
    metadata = tmp_path / "step-00000002" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "format": "somebody.else"}))
    with pytest.raises(TrainingError, match="not written by this trainer"):
        store.latest()


@pytest.mark.parametrize("in_background", [False, True])
def test_a_write_that_fails_leaves_the_last_good_one(tmp_path, in_background):
    store = _store(tmp_path, in_background=in_background)
    _save(store, 1)
    store.finish()
    # A real limit of the operating system: no file of this process may grow beyond 64 KiB.
    kept_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(TrainingError) as caught:
            _save(store, 2, size=1_000_000)
            store.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, kept_handler)
    text = str(caught.value)
    assert "\n" not in text
    assert "step 2" in text
    assert "step 1 is still good" in text
    assert store.latest().step == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001"]
    _save(store, 3)
    store.finish()
    assert store.latest().step == 3


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="could not be written"):
        _save(_store(tmp_path / "file"), 1)


def test_conversion_is_done_once_and_is_all_or_nothing(tmp_path):
    store = _store(tmp_path)
    _save(store, 1)
    checkpoint = store.latest()

    def broken(saved, converted):
        converted.mkdir(parents=True)
        raise OSError("interrupted")

    with pytest.raises(OSError, match="interrupted"):
        store.converted(checkpoint, broken)

    def convert(saved, converted):
        calls.append(saved)
        converted.mkdir(parents=True)
        (converted / "done").touch()

    calls = []
    assert os.listdir(store.converted(checkpoint, convert)) == ["done"]
    store.converted(checkpoint, convert)
    assert calls == [checkpoint.folder]


def test_position_is_epoch_and_step():
    position = Position(0, 4, TrainingConfig(epochs=3))
    assert (position.total, position.finished, position.epoch_ended, position.progress) == (12, False, False, 0.0)
    position.step = 6
    assert (position.epoch, position.within_epoch, position.epoch_ended, position.progress) == (1, 2, False, 0.5)
    position.step = 8
    assert (position.epoch, position.within_epoch, position.epoch_ended) == (2, 0, True)
    assert Position(0, 4, TrainingConfig()).total == 4
    assert Position(0, 4, TrainingConfig(max_steps=9)).total == 9
    assert Position(0, 4, TrainingConfig(max_steps=9, epochs=2)).total == 8
    with pytest.raises(DataError, match="batch_size=1024"):
        Position(0, 0, TrainingConfig())


def test_a_run_that_differs_is_not_resumed(tmp_path):
    config, position = TrainingConfig(batch_size=64), Position(2, 10, TrainingConfig(batch_size=64))
    store = _store(tmp_path)
    store.save(2, position.metadata(seed=3), {}, lambda folder, write: None)
    saved = store.latest()
    check_fits(saved, config, position, seed=3)
    for change, words in (
        (lambda: check_fits(saved, TrainingConfig(batch_size=32), position, 3), ["batch_size=32", "64"]),
        (lambda: check_fits(saved, config, position, 4), ["seed=4", "3"]),
        (lambda: check_fits(saved, config, Position(2, 11, config), 3), ["steps_per_epoch=11", "10", "data"]),
    ):
        with pytest.raises(ConfigError) as caught:
            change()
        assert all(word in str(caught.value) for word in words), caught.value
