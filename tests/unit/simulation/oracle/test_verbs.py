"""The verb `inspect` of kind `oracle`, on the pictures of a small world."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from adray import kinds
from adray.data.images import decode_image
from adray.data.labels import LABELS
from adray.data.schema import IMAGE
from adray.errors import DataError
from adray.feedback.config import AnnotationDataConfig, MapsConfig
from adray.feedback.tables import prepare_annotations
from adray.simulation.annotations import simulate_annotations
from adray.simulation.annotations_config import AnnotationsConfig


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle") / "world"
    config = AnnotationsConfig(products=25, pictures=40, holdout_pictures=160, size=40, textures=["plain"], holdout_products=0.8)
    simulate_annotations(config, 0, folder)
    return folder


@pytest.fixture
def inspect(world, tmp_path):
    def run(pictures=world / "holdout.parquet", name="o", holdout=None, **data):
        values = {"pictures": str(pictures), "products": str(world / "products.parquet"), **data}
        config = {"kind": "oracle", "name": name, "runs_dir": str(tmp_path), "holdout": holdout, "resamples": 50, "data": values}
        return kinds.perform(kinds.make_job(config, "o.yaml"), "inspect")

    return run


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_a_worlds_own_pictures_are_judged_as_they_were_drawn(inspect, world, tmp_path):
    run, report = inspect()
    metrics = report["metrics"]
    drawn = pq.read_table(world / "holdout.parquet")
    shares = {label: drawn["label"].to_pylist().count(label) / 160 for label in LABELS}
    assert metrics["oracle/binary_agreement"] > 0.97
    assert metrics["oracle/prompt_obeyed_labelled_available"] == 1.0
    assert metrics["oracle/available"] == pytest.approx(shares["available"], abs=0.03)
    assert metrics["oracle/available_low"] < metrics["oracle/available"] < metrics["oracle/available_high"]
    written = pq.read_table(tmp_path / "o" / "annotations" / "annotations.parquet")
    assert written.column("annotation_id").to_pylist() == drawn.column("annotation_id").to_pylist()
    assert written["label"].to_pylist().count("available") == round(160 * metrics["oracle/available"])
    assert written["image"].to_pylist() == drawn["image"].to_pylist()
    assert (run.folder / "plots" / "labels.png").is_file()
    assert "Some of each label" in (run.folder / "report.html").read_text()


def test_what_is_written_trains_an_inspector_whether_parted_or_not(inspect, tmp_path):
    inspect(name="whole")
    inspect(name="parted", holdout=0.3)
    rows = []
    for name in ("whole", "parted"):
        data = AnnotationDataConfig(path=str(tmp_path / name / "annotations"), ingest="inline", holdout=0.3)
        tables = prepare_annotations(data, MapsConfig(), tmp_path / "t" / name, with_maps=False)
        rows.append(tables.rows)
        skus = [set(pq.read_table(path)["sku_id"].to_pylist()) for path in (tables.train, tables.holdout)]
        assert not skus[0] & skus[1]
    # Both part by the same hash of the product.
    assert rows[0] == rows[1]
    assert sum(rows[0].values()) == 160


def test_another_table_with_the_same_requests_is_gained_over(inspect, world, tmp_path):
    drawn = pq.read_table(world / "holdout.parquet").slice(0, 60)
    seeds = pa.array(range(60))
    noisy = []
    for row, image in enumerate(drawn["image"].to_pylist()):
        pixels, cutout = decode_image(image["bytes"]), decode_image(drawn["cutout"][row]["bytes"].as_py())
        noise = np.random.default_rng(row).integers(0, 255, pixels.shape, np.uint8)
        noisy.append(png(np.where(cutout[..., 3:] > 0, pixels, noise).astype(np.uint8)))
    names = [name for name in drawn.column_names if name not in ("label", "annotation_id")]
    new = drawn.select(names).append_column("seed", seeds).append_column("image_id", pa.array([f"n{i}" for i in range(60)]))
    old = new.set_column(new.schema.get_field_index("image"), "image", pa.array(noisy, IMAGE)).take(pa.array(range(59, -1, -1)))
    pq.write_table(new, tmp_path / "new.parquet")
    pq.write_table(old, tmp_path / "old.parquet")
    _, report = inspect(tmp_path / "new.parquet", baseline=str(tmp_path / "old.parquet"))
    metrics = report["metrics"]
    # No picture whose background is noise passes, so all that is available is gained.
    assert metrics["oracle/baseline/available"] == 0.0
    assert metrics["oracle/available_gain"] == metrics["oracle/available"] > 0.4
    assert 0 < metrics["oracle/available_gain_low"] < metrics["oracle/available_gain"] < metrics["oracle/available_gain_high"]
    assert metrics["oracle/pairs"] == 60
    assert metrics["oracle/diversity_kept_low"] <= metrics["oracle/diversity_kept"] <= metrics["oracle/diversity_kept_high"]
    assert "oracle/agreement" not in metrics
    with pytest.raises(DataError, match=r"occurs \d+ times in data.pictures"):
        inspect(tmp_path / "new.parquet", name="p", baseline=str(tmp_path / "old.parquet"), pair_on=["sku_id"])


def test_an_inspectors_verdicts_are_held_against_the_oracle(inspect, tmp_path):
    inspect(name="a")
    judged = pq.read_table(tmp_path / "a" / "annotations")
    label = judged["label"].to_pylist()
    # An inspector that is right but on the first ten pictures, where it says the contrary.
    said = [("size_mismatch" if one == "available" else "available") if row < 10 else one for row, one in enumerate(label)]
    verdicts = {"image_id": judged["annotation_id"], "label": said, "accepted": [one == "available" for one in said]}
    pq.write_table(pa.table(verdicts), tmp_path / "verdicts.parquet")
    _, report = inspect(name="b", verdicts=str(tmp_path / "verdicts.parquet"))
    assert report["metrics"]["oracle/inspector/agreement"] == pytest.approx(150 / 160)
    assert report["metrics"]["oracle/inspector/binary_agreement"] == pytest.approx(150 / 160)


def test_pictures_that_cannot_be_judged_are_quarantined_with_their_reason(inspect, world, tmp_path):
    rows = pq.read_table(world / "holdout.parquet").slice(0, 8).to_pylist()
    empty = np.zeros((40, 40, 4), np.uint8)
    rows[0]["cutout"] = png(np.zeros((40, 40, 3), np.uint8))
    rows[1]["cutout"] = png(empty)
    rows[2]["image"] = {"bytes": rows[2]["image"]["bytes"][:60], "path": None}
    rows[3]["image"] = None
    rows[4]["sku_id"] = "stranger"
    rows[5]["image"] = png(np.zeros((40, 48, 3), np.uint8))
    rows[6]["cutout"] = {"bytes": None, "path": "gone.png"}
    schema = pq.read_schema(world / "holdout.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "bad.parquet")
    _, report = inspect(tmp_path / "bad.parquet", quarantine_limit=1.0)
    assert (report["metrics"]["oracle/pictures"], report["metrics"]["oracle/quarantined"]) == (1, 7)
    lost = {row["key"]: row["reason"] for row in pq.read_table(tmp_path / "o" / "quarantine").to_pylist()}
    expected = [
        "no alpha channel",
        "alpha is 0 everywhere",
        "cannot be decoded",
        "no picture",
        "'stranger' has no height",
        "40x40",
        "gone.png",
    ]
    for row, text in zip(rows, expected, strict=False):
        assert text in lost[row["annotation_id"]]
    with pytest.raises(DataError, match=r"7 of 8 rows \(87.50%\) cannot be used"):
        inspect(tmp_path / "bad.parquet", name="strict")
    assert not (tmp_path / "strict" / "annotations").exists()


@pytest.mark.parametrize(
    ("dropped", "text"),
    [("annotation_id", "no column that names a picture"), ("cutout", "no column 'cutout'"), ("sku_id", "no column 'sku_id'")],
)
def test_a_table_of_another_form_is_refused_before_anything_starts(inspect, world, tmp_path, dropped, text):
    pq.write_table(pq.read_table(world / "holdout.parquet").drop_columns([dropped]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=text):
        inspect(tmp_path / "t.parquet")
    assert not (tmp_path / "o").exists()
