"""An offline W&B run, read back from the file that `wandb sync` would upload."""

import json
import threading
import time
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2

from adray.artifact import load_artifact
from adray.training.config import TrackingConfig, TrainingConfig
from adray.training.fit import fit
from tests.helpers.synthetic_training import SyntheticTask
from tests.helpers.wandb_file import read_records


def _records(folder):
    (path,) = Path(folder).glob("wandb/offline-run-*/run-*.wandb")
    for data in read_records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def _finished_records(folder, timeout=60):
    """W&B's own process writes the file; it is complete when the exit record is there."""
    deadline = time.monotonic() + timeout
    while True:
        records = list(_records(folder))
        if any(r.WhichOneof("record_type") == "exit" for r in records):
            return records
        assert time.monotonic() < deadline, f"no exit record among {len(records)} after {timeout} s"
        threading.Event().wait(0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    config = TrainingConfig(epochs=2, batch_size=32, log_every=5, tracking=TrackingConfig(wandb="offline", project="tests"))
    record = {"kind": "synthetic", "training": config.model_dump(mode="json")}
    fit(SyntheticTask(with_picture=True), config, run_folder=folder, run_name="tracked", seed=1, record=record, quiet=True)
    return folder, _finished_records(folder)


def _named(item):
    return item.key or "/".join(item.nested_key)


def test_the_config_is_there(run):
    _, records = run
    updates = [update for r in records if r.WhichOneof("record_type") == "run" for update in r.run.config.update]
    updates += [update for r in records if r.WhichOneof("record_type") == "config" for update in r.config.update]
    config = {_named(update): json.loads(update.value_json) for update in updates}
    assert config["kind"] == "synthetic"
    assert config["training"]["batch_size"] == 32
    assert [r.run.project for r in records if r.WhichOneof("record_type") == "run"][0] == "tests"


def test_the_metrics_of_every_step_equal_those_in_the_jsonl(run):
    folder, records = run
    history = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {_named(item): json.loads(item.value_json) for item in record.history.item}
            history.setdefault(items.get("_step", record.history.step.num), {}).update(items)
    assert sorted(step for step, items in history.items() if "train/loss" in items) == [5, 10, 15, 20]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name not in ("step", "time"):
                assert history[row["step"]][name] == pytest.approx(value), (row["step"], name)


def test_a_picture_is_logged_and_lies_beside(run):
    folder, records = run
    items = [i for r in records if r.WhichOneof("record_type") == "history" for i in r.history.item]
    picture = {i.nested_key[-1]: json.loads(i.value_json) for i in items if i.nested_key[:1] == ["pictures/weights"]}
    assert (picture["_type"], picture["width"], picture["height"]) == ("image-file", 6, 4)
    (path,) = Path(folder).glob(f"wandb/offline-run-*/files/{picture['path']}")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_the_artifact_carries_hash_and_lineage(run):
    folder, records = run
    artifacts = [r.request.log_artifact.artifact for r in records if r.request.WhichOneof("request_type") == "log_artifact"]
    artifacts += [r.artifact for r in records if r.WhichOneof("record_type") == "artifact"]
    models = [a for a in artifacts if a.type == "model"]
    assert len(models) == 1
    metadata = json.loads(models[0].metadata)
    exported = load_artifact(folder / "export" / "model")
    assert metadata["content_hash"] == exported.content_hash
    assert metadata["lineage"] == {"tables": ["synthetic"]}
    assert {entry.path for entry in models[0].manifest.contents} == {"artifact.json", "model.safetensors"}
