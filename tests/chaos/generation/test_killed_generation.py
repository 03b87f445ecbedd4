"""A worker that is killed while it generates, a driver that is killed: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from adray import kinds
from tests.helpers.tiny_generation import tables_of, write_generation
from tests.helpers.torchrun import ROOT

PROGRAM = """
import json, sys
from adray import kinds
kinds.perform(kinds.make_job(json.loads(sys.argv[1]), "chaos"), "generate")
"""


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Fields of a config of 12 small items, and the tables of a run that nothing disturbed."""
    values = write_generation(tmp_path_factory.mktemp("generation"), 24)
    values |= {"job": {"batch_rows": 2, "chunk_rows": 2}, "contact_sheet": 0}
    run, _ = kinds.perform(kinds.make_job(values, "test"), "generate")
    return values, tables_of(run.folder)


def records(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "done").glob("*.json")}


def wait_for(count: int, folder: Path, alive=lambda: True) -> set[str]:
    end = time.monotonic() + 240
    while len(found := records(folder)) < count:
        assert alive() and time.monotonic() < end, f"only {len(found)} items were done"
        threading.Event().wait(0.02)
    return found


def pool_workers() -> list[psutil.Process]:
    """Actors of this process's own Ray that run pool workers."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "_PoolWorker" in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_a_killed_actor_costs_its_own_item_alone(straight, tmp_path, ray_cluster):
    values, expected = straight
    killed = []
    folder = tmp_path / "run"

    def kill() -> None:
        wait_for(2, folder)
        victim = pool_workers()[0]
        victim.send_signal(signal.SIGKILL)
        killed.append((victim.pid, len(records(folder))))

    thread = threading.Thread(target=kill)
    thread.start()
    run, report = kinds.perform(
        kinds.make_job({**values, "runs_dir": str(tmp_path), "job": {**values["job"], "workers": 2}}, "test"), "generate"
    )
    thread.join()
    assert killed and killed[0][1] < 12
    assert tables_of(run.folder) == expected
    # Each item counts once, whoever did it in the end.
    assert report["metrics"]["generation/pictures"] == len(expected["verdicts"])


def test_a_killed_driver_goes_on_where_it_was(straight, tmp_path):
    values, expected = straight
    folder = tmp_path / "run"
    values = {**values, "runs_dir": str(tmp_path)}
    program = [sys.executable, "-c", PROGRAM, json.dumps(values)]
    driver = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(3, folder, lambda: driver.poll() is None)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = {name: (folder / "done" / f"{name}.json").stat().st_mtime_ns for name in records(folder)}
    assert 3 <= len(before) < 12
    _, report = kinds.perform(kinds.make_job({**values, "resume": True}, "test"), "generate")
    assert tables_of(folder) == expected
    assert all((folder / "done" / f"{name}.json").stat().st_mtime_ns == stamp for name, stamp in before.items())
    metrics = report["metrics"]
    assert 0 < metrics["generation/pictures_new"] < metrics["generation/pictures"] == len(expected["verdicts"])
    assert not list(folder.rglob("*.partial"))
