"""Inspection by Ray Data actors: the same verdicts as in this process, also when an actor dies."""

from __future__ import annotations

import pytest

from adray import kinds
from adray.feedback.inspection import job
from adray.simulation.annotations import simulate_annotations
from adray.simulation.annotations_config import AnnotationsConfig
from tests.helpers.inspectors import start_mortal, write_inspector

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspection")
    simulate_annotations(AnnotationsConfig(products=12, pictures=60, holdout_pictures=10, size=32), 0, folder / "world")
    return {
        "kind": "inspection",
        "runs_dir": str(folder / "runs"),
        "artifact": str(write_inspector(folder / "rfnet", balanced_on=folder / "world" / "train.parquet")),
        "data": {"pictures": str(folder / "world" / "train.parquet")},
    }


def inspect(values, name, resume=False, **how):
    settings = {"chunk_rows": 8, "batch_rows": 4, "threads": 1, **how}
    return kinds.perform(kinds.make_job({**values, "name": name, "resume": resume, "job": settings}, "test"), "inspect")


@pytest.fixture(scope="module")
def alone(values, ray_cluster):
    folder = inspect(values, "alone")[0].folder
    return {path.name: path.read_bytes() for path in (folder / "verdicts").glob("*.parquet")}


def test_two_actors_of_which_one_dies_write_what_no_actor_writes(values, alone, monkeypatch):
    monkeypatch.setattr(job, "start_worker", start_mortal)
    run, report = inspect(values, "pool", workers=2)
    assert (run.folder / "died").exists()
    assert {path.name: path.read_bytes() for path in (run.folder / "verdicts").glob("*.parquet")} == alone
    assert len(alone) == 8
    assert report["metrics"]["feedback/inspect/rows"] == report["metrics"]["feedback/inspect/rows_new"] == 60
    # What lost its record is done again, and nothing else, whoever does it.
    for path in sorted((run.folder / "done").iterdir())[:2]:
        path.unlink()
    _, report = inspect(values, "pool", resume=True)
    assert 0 < report["metrics"]["feedback/inspect/rows_new"] <= 16
    assert {path.name: path.read_bytes() for path in (run.folder / "verdicts").glob("*.parquet")} == alone
