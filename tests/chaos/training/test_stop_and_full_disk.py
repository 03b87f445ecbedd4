"""A driver that is told to stop, a disk that fills up, a tracker whose files cannot be written."""

import resource
import signal
import subprocess
import sys

import pytest
import torch

from adray.errors import TrainingError
from adray.training.checkpoint import list_checkpoints
from adray.training.config import TrainingConfig
from adray.training.fit import fit
from tests.helpers.synthetic_training import Regressor, SyntheticTask, exported_weights
from tests.helpers.torchrun import ROOT

PROGRAM = """
import os, signal, sys, threading
from pathlib import Path
from adray.errors import AdrayError
from adray.training.config import TrainingConfig
from adray.training.fit import fit
from tests.helpers.synthetic_training import SyntheticTask

folder = Path(sys.argv[1])
held = folder.with_name("held")

def stop():
    while not held.with_name("held-6").exists():
        threading.Event().wait(0.1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop, daemon=True).start()
# Step 6 is held until the worker has been told to stop, which the driver does in a file.
task = SyntheticTask(hold=((6, 1, 0),), held=str(held), hold_until=str(folder / "stop"))
config = TrainingConfig(epochs=2, batch_size=32, log_every=1, checkpoint_every=4, workers=1)
try:
    fit(task, config, run_folder=folder, run_name="stopped", seed=1, quiet=True)
except AdrayError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_a_driver_that_is_told_to_stop_leaves_a_checkpoint_and_the_resumed_run_ends_the_same(tmp_path):
    """SIGTERM goes to the driver alone; the Ray worker learns of it and saves the step that it was in."""
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 130, done.stderr[-3000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [f"error: training was stopped at step 7; its state is in {folder / 'checkpoints'}; go on with --set resume=true"]
    saved = list_checkpoints(folder / "checkpoints")[-1]
    assert (saved.step, saved.metadata["world_size"]) == (7, 1)

    _fit(folder, SyntheticTask(), resume=True)
    _fit(tmp_path / "straight", SyntheticTask())
    expected, found = exported_weights(tmp_path / "straight"), exported_weights(folder)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


class _FillingDisk(Regressor):
    """From step 6 on, no file of this process may grow beyond 1 KiB: a limit of the operating system itself."""

    def after_step(self, progress):
        super().after_step(progress)
        if self.step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class _FillingTask(SyntheticTask):
    def build_module(self):
        return _FillingDisk(self)


def _fit(folder, task, resume=False, **config):
    given = TrainingConfig(**{"epochs": 2, "batch_size": 32, "log_every": 1, "checkpoint_every": 4, **config})
    return fit(task, given, run_folder=folder, run_name="full", seed=1, resume=resume, quiet=True)


@pytest.mark.parametrize("in_background", [False, True])
def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_goes_on(tmp_path, caplog, in_background):
    kept_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(TrainingError) as caught:
            _fit(tmp_path / "run", _FillingTask(), checkpoint_async=in_background)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, kept_handler)
    text = str(caught.value)
    assert "\n" not in text
    assert "checkpoint of step 8" in text
    assert "File too large" in text
    assert "step 4 is still good" in text
    # metrics.jsonl could not grow either: the tracker was switched off with one warning, and training had gone on.
    warnings = [r.getMessage() for r in caplog.records if r.name == "adray.training.tracking"]
    assert len(warnings) == 1
    assert "JsonLines is switched off" in warnings[0]

    _fit(tmp_path / "run", SyntheticTask(), resume=True, checkpoint_async=in_background)
    _fit(tmp_path / "straight", SyntheticTask())
    expected, found = exported_weights(tmp_path / "straight"), exported_weights(tmp_path / "run")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
