"""Nodes of a real Ray cluster that come and are lost while an elastic run trains on them."""

import json
import os
import subprocess
import sys

import pytest
import torch

from adray.training.checkpoint import list_checkpoints
from adray.training.config import TrainingConfig
from adray.training.fit import fit
from tests.helpers.synthetic_training import SyntheticTask, exported_weights
from tests.helpers.torchrun import ROOT

TRAINING = {"epochs": 2, "batch_size": 32, "log_every": 1, "checkpoint_every": 4, "num_to_keep": 10, "zero_stage": 1}
# How fast Ray notices that a machine is gone: 1.5 s instead of 15 s.
NOTICES_FAST = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


def _elastic_fit(folder, *, events, task, nodes=1, **config):
    given = {
        "folder": str(folder),
        "nodes": nodes,
        "events": [[f"{folder}-held-{step}", what] for step, what in events],
        "task": {"held": f"{folder}-held", **task},
        "config": {**TRAINING, "workers": [1, 2], **config},
        "environment": NOTICES_FAST,
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # The session's own setting; here it is the trainer's that counts.
    environment.pop("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S")
    command = [sys.executable, ROOT / "tests" / "helpers" / "elastic_fit.py", json.dumps(given)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)


def _assert_same(one, other):
    for name, value in exported_weights(one).items():
        if name != "seen":
            torch.testing.assert_close(value, exported_weights(other)[name], rtol=0, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """One process, no Ray. Dropout is off: its draws depend on the number of workers."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    fit(SyntheticTask(dropout=0.0), TrainingConfig(**TRAINING), run_folder=folder, run_name="straight", seed=1, quiet=True)
    return folder


# Half of it is Ray starting processes; a busy machine takes several times as long.
@pytest.mark.timeout(400)
def test_a_run_grows_onto_a_new_node_and_outlives_its_loss(uninterrupted, tmp_path):
    """It starts alone; a node joins while step 6 is held, and loses its power while the second worker is within step 14."""
    task = {"dropout": 0.0, "hold": [[6, 1, 0], [14, 2, 1]]}
    done = _elastic_fit(tmp_path / "run", events=[(6, "add"), (14, "remove")], task=task, resize_check_s=1)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert '{"steps": 20, "world_size": 1}' in done.stdout.splitlines()
    worlds = {c.step: c.metadata["world_size"] for c in list_checkpoints(tmp_path / "run" / "checkpoints")}
    assert worlds == {4: 1, 8: 2, 12: 2, 16: 1, 20: 1}
    _assert_same(uninterrupted, tmp_path / "run")


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_a_nodes_notice_makes_a_checkpoint_before_it_is_taken(uninterrupted, tmp_path):
    """A preemption as clouds do it: Ray is told in advance, in step 11; the node goes in step 14. No other checkpoint is due."""
    task = {"dropout": 0.0, "hold": [[11, 2, 0, "notice"], [11, 2, 1, "notice"], [14, 2, 1]]}
    events = [(11, "announce"), (14, "remove")]
    done = _elastic_fit(tmp_path / "run", nodes=2, events=events, task=task, checkpoint_every=100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    worlds = {c.step: c.metadata["world_size"] for c in list_checkpoints(tmp_path / "run" / "checkpoints")}
    assert worlds == {12: 2, 20: 1}
    _assert_same(uninterrupted, tmp_path / "run")
