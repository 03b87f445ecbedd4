"""One head for all tests of jobs, a world that a job has made there, and a ranker that another has trained on it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.torchrun import ROOT
from tests.integration.jobs.head import launch, started_head

SECRET_HERE = "a-key-that-must-not-travel"
SMALL = ("world.impressions=4000", "world.users=100", "world.skus=20", "world.images=false")


def sets(*fields):
    return [word for field in fields for word in ("--set", field)]


def submission(head, verb, config, *fields):
    """The words that submit a run to the head, its folder on storage that outlives the job."""
    return ["submit", verb, config, "--address", head.url, *sets(f"runs_dir={head.folder}/runs", *fields)]


def until_submitted(client):
    """Read a client's stderr up to the line that tells the job; return its id."""
    for line in client.stderr:
        if line.startswith("job adray-"):
            return line.split()[1].rstrip(":")
    raise AssertionError("the client ended before it had submitted")


@pytest.fixture(scope="package")
def head():
    with started_head() as head:
        yield head


@pytest.fixture(scope="package")
def orphan(head):
    """A job whose client was killed as soon as it had submitted it: its id."""
    command = [sys.executable, "launch.py", *submission(head, "simulate", "configs/world.yaml", *SMALL)]
    client = subprocess.Popen(command, env=head.environment(), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        job_id = until_submitted(client)
        assert head.job(job_id)["status"] in ("PENDING", "RUNNING")
    finally:
        os.kill(client.pid, signal.SIGKILL)
        client.wait(timeout=10)
        client.stderr.close()
    return job_id


@pytest.fixture(scope="package")
def world(head, orphan):
    """The folder of the world that the orphaned job made."""
    head.until(orphan, "SUCCEEDED")
    return Path(head.folder) / "runs" / "world" / "world"


@pytest.fixture(scope="package")
def trained(head, world):
    """A training that was submitted and followed to its end: the words, the environment, and what the client did."""
    words = submission(head, "train", "configs/ranker-world.yaml", f"data.path={world}", "training.epochs=1")
    here = head.environment(WANDB_API_KEY=SECRET_HERE, WANDB_MODE="offline", SOMETHING_ELSE=SECRET_HERE)
    return words, here, launch(*words, "--json", env=here)
