"""The verb `inspect` of kind `inspection`, without Ray: every picture judged or quarantined, none twice."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from adray import kinds
from adray.data.labels import LABELS
from adray.data.schema import IMAGE, VERDICTS
from adray.errors import ArtifactError, DataError
from adray.feedback.artifact import load_inspector
from adray.feedback.inspection import worker
from adray.feedback.metrics import inspection_metrics
from adray.simulation.annotations import simulate_annotations
from adray.simulation.annotations_config import AnnotationsConfig
from tests.helpers.inspectors import write_inspector


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspection") / "world"
    simulate_annotations(AnnotationsConfig(products=12, pictures=50, holdout_pictures=10, size=32), 0, folder)
    return folder


@pytest.fixture(scope="module")
def artifact(world, tmp_path_factory):
    return write_inspector(tmp_path_factory.mktemp("inspector") / "rfnet", balanced_on=world / "train.parquet")


@pytest.fixture
def inspect(world, artifact, tmp_path):
    def run(pictures=world / "train.parquet", name="i", artifact=artifact, resume=False, limit=0.01, **job):
        config = {
            "kind": "inspection",
            "name": name,
            "runs_dir": str(tmp_path),
            "artifact": str(artifact),
            "resume": resume,
            "data": {"pictures": str(pictures), "quarantine_limit": limit},
            "job": {"batch_rows": 4, "chunk_rows": 8, **job},
            "contact_sheet": 2,
        }
        return kinds.perform(kinds.make_job(config, "i.yaml"), "inspect")

    return run


def verdicts(folder, name="i"):
    return pyarrow.dataset.dataset(folder / name / "verdicts").to_table().sort_by("image_id")


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def opened(cells):
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0


def test_verdicts_are_the_inspectors_own_on_each_picture(inspect, world, artifact, tmp_path):
    run, report = inspect(prefetch=2)
    rows, drawn = verdicts(tmp_path), pq.read_table(world / "train.parquet").sort_by("annotation_id")
    declared = {field.name: field.type for field in [*VERDICTS.required, *VERDICTS.optional]}
    assert all(declared[field.name] == field.type for field in rows.schema)
    assert {*VERDICTS.required.names, "prompt", "inspector"} == set(rows.column_names)
    inspector = load_inspector(artifact)
    expected = inspector.probabilities(opened(drawn["image"].to_pylist()), opened(drawn["cutout"].to_pylist()), drawn["copy"].to_pylist())
    found = np.array([[dict(row)[label] for label in LABELS] for row in rows["probabilities"].to_pylist()])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert rows["image_id"].to_pylist() == drawn["annotation_id"].to_pylist()
    assert rows["label"].to_pylist() == [LABELS[i] for i in found.argmax(axis=1)]
    assert rows["accepted"].to_pylist() == (found.argmax(axis=1) == 0).tolist()
    assert set(rows["inspector"].to_pylist()) == {inspector.content_hash}
    assert set(rows["attempt"].to_pylist()) == {0}
    metrics = report["metrics"]
    known = inspection_metrics(np.array([LABELS.index(label) for label in drawn["label"].to_pylist()]), found)
    assert {name: metrics[name] for name in known} == pytest.approx(known, nan_ok=True)
    assert metrics["feedback/inspect/accepted_share"] == pytest.approx((found.argmax(axis=1) == 0).mean())
    assert 0 < metrics["feedback/inspect/accepted_share"] < 1, "an inspector that says one thing of all tests nothing"
    for i, label in enumerate(LABELS):
        assert metrics[f"feedback/inspect/share/{label}"] == pytest.approx((found.argmax(axis=1) == i).mean())
    assert metrics["feedback/inspect/rows_per_s"] > 0
    assert {f"inspect/{stage}" for stage in worker.STAGES} <= set(report["seconds"])
    with Image.open(run.folder / "plots" / "verdicts.png") as sheet:
        # Two accepted and two refused pictures fill one row.
        assert sheet.height < 250


def test_an_inspection_goes_on_with_what_is_missing(inspect, world, tmp_path):
    inspect()
    whole, done = verdicts(tmp_path), sorted((tmp_path / "i" / "done").iterdir())
    assert inspect(resume=True)[1]["metrics"]["feedback/inspect/rows_new"] == 0
    done[0].unlink()
    (tmp_path / "i" / "verdicts" / ".part-left.partial").write_bytes(b"half")
    _, report = inspect(resume=True)
    assert 0 < report["metrics"]["feedback/inspect/rows_new"] <= 8
    assert report["metrics"]["feedback/inspect/rows"] == 50
    assert verdicts(tmp_path).equals(whole)


def test_another_inspectors_verdicts_do_not_join_a_table(inspect, tmp_path):
    inspect()
    other = write_inspector(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match=r"holds verdicts of inspector '\w+', this config's is '\w+'; start a run of another name"):
        inspect(artifact=other, resume=True)


def test_pictures_that_cannot_be_inspected_are_quarantined_with_their_reason(inspect, world, tmp_path):
    rows = pq.read_table(world / "train.parquet").slice(0, 12).to_pylist()
    clear, thin = np.zeros((32, 32, 4), np.uint8), np.zeros((32, 32, 4), np.uint8)
    thin[..., 3] = 90
    (tmp_path / "text.png").write_text("no picture")
    changes = [
        ("cutout", png(np.zeros((32, 32, 3), np.uint8)), "cutout: it has no alpha channel"),
        ("cutout", png(clear), "cutout: its alpha is 0 everywhere"),
        ("cutout", png(thin), "cutout: the product is empty, no pixel has alpha 128 or more"),
        ("cutout", {"bytes": None, "path": str(tmp_path / "gone.png")}, "gone.png"),
        ("image", {"bytes": None, "path": str(tmp_path / "text.png")}, "image: 10 bytes that are no known picture format"),
        ("image", {"bytes": rows[5]["image"]["bytes"][:70], "path": None}, "image: the picture cannot be decoded"),
        ("image", {"bytes": b"", "path": None}, "image: the picture has no bytes"),
        ("image", None, "image: there is no picture"),
        ("image", {"bytes": None, "path": None}, "image: there is no picture"),
        ("cutout", png(np.full((16, 32, 4), 255, np.uint8)), "cutout: it is 32x16, the picture 32x32"),
        ("sku_id", None, "sku_id is null"),
    ]
    for row, (column, value, _) in zip(rows, changes, strict=False):
        row[column] = value
    schema = pq.read_schema(world / "train.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "bad.parquet")
    _, report = inspect(tmp_path / "bad.parquet", limit=1.0)
    assert (report["metrics"]["feedback/inspect/rows"], report["metrics"]["feedback/inspect/quarantined"]) == (1, 11)
    lost = {row["key"]: row["reason"] for row in pq.read_table(tmp_path / "i" / "quarantine").to_pylist()}
    for row, (_, _, reason) in zip(rows, changes, strict=False):
        assert reason in lost[row["annotation_id"]]
    assert verdicts(tmp_path)["image_id"].to_pylist() == [rows[11]["annotation_id"]]
    with pytest.raises(DataError, match=r"of 12 rows \(\d+.\d+%\) cannot be used, limit 1.00%; first t\d+: cutout: it has no alpha"):
        inspect(tmp_path / "bad.parquet", name="strict")


def test_large_pictures_are_judged_a_few_at_a_time_and_sizes_may_differ(inspect, world, tmp_path, monkeypatch):
    inspect()
    whole = verdicts(tmp_path)
    monkeypatch.setattr(worker, "_PIXELS", 3 * 32 * 32)
    seen = []
    original = worker.InspectWorker._probabilities
    monkeypatch.setattr(worker.InspectWorker, "_probabilities", lambda self, batch: seen.append(batch) or original(self, batch))
    rows = pq.read_table(world / "train.parquet").to_pylist()
    for name in ("image", "cutout"):
        larger = Image.open(io.BytesIO(rows[0][name]["bytes"])).resize((64, 64))
        rows[0][name] = png(np.asarray(larger))
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(world / "train.parquet")), tmp_path / "sizes.parquet")
    inspect(tmp_path / "sizes.parquet", name="few")
    # A picture larger than the limit goes alone.
    assert [one.picture.shape[0] for one in seen[0].decoded] == [64]
    assert max(len(batch.decoded) for batch in seen) == 3
    again = verdicts(tmp_path, "few")
    assert again["image_id"].equals(whole["image_id"])
    places = [i for i, name in enumerate(whole["image_id"].to_pylist()) if name != rows[0]["annotation_id"]]
    for one, other in zip(again["probabilities"].take(places).to_pylist(), whole["probabilities"].take(places).to_pylist(), strict=True):
        assert dict(one) == pytest.approx(dict(other), abs=1e-5)


def test_an_inspector_of_the_picture_alone_needs_no_cutouts(inspect, world, tmp_path):
    table = pq.read_table(world / "train.parquet").select(["sku_id", "image"])
    extra = {"creative_id": [f"c{i:02d}" for i in range(50)], "seed": list(range(50)), "attempt": [i % 3 for i in range(50)]}
    for name, values in extra.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, tmp_path / "plain.parquet")
    with pytest.raises(DataError, match="has no column 'cutout'"):
        inspect(tmp_path / "plain.parquet")
    alone = write_inspector(tmp_path / "alone", kind="resnet", balanced_on=world / "train.parquet")
    pq.write_table(table.append_column("accepted", pa.array([i % 2 == 0 for i in range(50)])), tmp_path / "plain.parquet")
    _, report = inspect(tmp_path / "plain.parquet", artifact=alone)
    rows = verdicts(tmp_path)
    taken = rows["accepted"].to_pylist()[::2]
    assert report["metrics"]["feedback/inspect/confirmed_share"] == pytest.approx(sum(taken) / 25)
    assert report["metrics"]["feedback/inspect/confirmed_of"] == 25
    assert rows["seed"].to_pylist() == list(range(50))
    assert rows["attempt"].to_pylist() == [i % 3 for i in range(50)]
    assert "feedback/f1" not in report["metrics"]


def test_what_is_missing_is_named_before_anything_starts(inspect, world, tmp_path):
    with pytest.raises(ArtifactError, match="no artifact at"):
        inspect(artifact=tmp_path / "nowhere")
    pq.write_table(pq.read_table(world / "train.parquet").drop_columns(["annotation_id"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no column that names a picture: image_id, annotation_id"):
        inspect(tmp_path / "t.parquet")
    assert not (tmp_path / "i").exists()
    rows = pq.read_table(world / "train.parquet")
    pq.write_table(pa.concat_tables([rows, rows.slice(3, 1)]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"image_id 't\d+' occurs twice in table 'pictures'"):
        inspect(tmp_path / "twice.parquet")


def test_pictures_may_lie_in_files_beside_the_table(inspect, world, artifact, tmp_path):
    rows = pq.read_table(world / "train.parquet").slice(0, 3)
    inspect(world / "train.parquet")
    for name in ("image", "cutout"):
        files = []
        for i, cell in enumerate(rows[name].to_pylist()):
            (tmp_path / f"{name}{i}.png").write_bytes(cell["bytes"])
            files.append({"bytes": None, "path": f"{name}{i}.png"})
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(files, IMAGE))
    pq.write_table(rows, tmp_path / "files.parquet")
    inspect(tmp_path / "files.parquet", name="files")
    known = {row["image_id"]: dict(row["probabilities"]) for row in verdicts(tmp_path).to_pylist()}
    for row in verdicts(tmp_path, "files").to_pylist():
        assert dict(row["probabilities"]) == pytest.approx(known[row["image_id"]], abs=1e-5)
