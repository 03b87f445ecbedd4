from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from adray import kinds
from adray.data.images import decode_image
from adray.errors import DataError
from adray.feedback.artifact import load_inspector
from adray.feedback.config import AnnotationDataConfig, MapsConfig
from adray.feedback.tables import prepare_annotations
from adray.simulation.annotations import simulate_annotations
from adray.simulation.annotations_config import AnnotationsConfig


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotations") / "world"
    simulate_annotations(AnnotationsConfig(products=12, pictures=96, holdout_pictures=48, size=32), 0, folder)
    return folder


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_a_parted_source_keeps_its_parts_and_gets_maps(world, tmp_path):
    config = AnnotationDataConfig(path=str(world), ingest="inline")
    tables = prepare_annotations(config, MapsConfig(), tmp_path / "t")
    assert tables.rows == {"train": 96, "holdout": 48}
    assert sum(tables.labels.values()) == 96
    rows = pq.read_table(tables.train)
    assert decode_image(rows["depth"][0]["bytes"].as_py()).shape == (32, 32, 3)
    assert set(rows["maps"].to_pylist()) == {"ground-1,contrast-1"}
    stamp = (tmp_path / "t" / "annotations.json").stat().st_mtime_ns
    assert prepare_annotations(config, MapsConfig(), tmp_path / "t") == tables
    assert (tmp_path / "t" / "annotations.json").stat().st_mtime_ns == stamp


def test_maps_that_a_table_has_are_kept(world, tmp_path):
    config = AnnotationDataConfig(path=str(world), ingest="inline")
    first = prepare_annotations(config, MapsConfig(), tmp_path / "a")
    rows = pq.read_table(first.train)
    grey = pa.array([png(np.full((32, 32), 7, np.uint8))] * rows.num_rows, rows.schema.field("depth").type)
    pq.write_table(rows.set_column(rows.schema.get_field_index("depth"), "depth", grey), tmp_path / "own.parquet")
    again = prepare_annotations(
        AnnotationDataConfig(path=str(tmp_path / "own.parquet"), ingest="inline", holdout=0.3), MapsConfig(), tmp_path / "b"
    )
    assert decode_image(pq.read_table(again.train)["depth"][0]["bytes"].as_py()).max() == 7


def test_an_unparted_source_is_parted_by_product(world, tmp_path):
    config = AnnotationDataConfig(path=str(world / "train.parquet"), ingest="inline", holdout=0.4)
    tables = prepare_annotations(config, MapsConfig(), tmp_path / "t", with_maps=False)
    train, holdout = (set(pq.read_table(path)["sku_id"].to_pylist()) for path in (tables.train, tables.holdout))
    assert train and holdout and not train & holdout
    assert sum(tables.rows.values()) == 96
    assert "depth" not in pq.read_table(tables.train).column_names


def test_unusable_rows_are_named_and_quarantined(world, tmp_path):
    rows = pq.read_table(world / "train.parquet").to_pylist()
    solid = np.full((32, 32, 4), 255, np.uint8)
    faint = solid.copy()
    faint[..., 3] = 90
    for row, (column, value) in enumerate(
        [
            ("cutout", png(solid[..., :3])),
            ("cutout", png(solid * np.array([1, 1, 1, 0], np.uint8))),
            ("cutout", png(faint)),
            ("image", {"bytes": b"no picture", "path": None}),
            ("image", {"bytes": None, "path": str(tmp_path / "gone.png")}),
            ("label", "splendid"),
            ("label", "unsuitable"),
        ]
    ):
        rows[row][column] = value
    ids = [row["annotation_id"] for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(world / "train.parquet")), tmp_path / "bad.parquet")
    config = AnnotationDataConfig(path=str(tmp_path / "bad.parquet"), ingest="inline", holdout=0.3, quarantine_limit=0.2)
    tables = prepare_annotations(config, MapsConfig(), tmp_path / "t", with_maps=False)
    lost = {row["key"]: row["reason"] for row in pq.read_table(tables.quarantine).to_pylist()}
    assert set(lost) == set(ids[:6])
    for key, text in zip(ids, ["no alpha", "alpha is 0", "empty", "no known picture", "gone.png", "'splendid' is unknown"], strict=False):
        assert text in lost[key]
    # Rows of a label to drop are neither kept nor counted as lost.
    assert sum(tables.rows.values()) == 96 - 7 and tables.quarantined == 6
    with pytest.raises(DataError, match="6 of 95 rows"):
        prepare_annotations(config.model_copy(update={"quarantine_limit": 0.01}), MapsConfig(), tmp_path / "u", with_maps=False)


def test_further_sources_join_the_training_rows_and_are_held_out_apart(world, tmp_path):
    other = tmp_path / "other.parquet"
    rows = pq.read_table(world / "train.parquet").slice(0, 40)
    pq.write_table(rows.set_column(0, "annotation_id", pa.array([f"g{i}" for i in range(40)])), other)
    more = {"parted": {"path": str(world)}, "drawn": {"path": str(other)}, "learnt": {"path": str(other), "split": "train"}}
    more["asked"] = {"path": str(world), "split": "holdout"}
    config = AnnotationDataConfig(path=str(world), ingest="inline", holdout=0.4, more=more)
    tables = prepare_annotations(config, MapsConfig(), tmp_path / "t", with_maps=False)
    held = pq.read_table(tables.more["drawn"])
    assert tables.rows == {
        "train": 96 + 96 + (40 - held.num_rows) + 40, "holdout": 48, "parted": 48, "drawn": held.num_rows, "asked": 96 + 48
    }  # fmt: skip
    assert set(tables.more) == {"parted", "drawn", "asked"}
    ids = pq.read_table(tables.train)["annotation_id"].to_pylist()
    assert len(ids) == tables.rows["train"] == sum(tables.labels.values())
    # Twice in `learnt` and in the training share of `drawn`, once in `learnt` alone.
    assert {ids.count(key) for key in held["annotation_id"].to_pylist()} == {1}
    assert sum(key.startswith("g") for key in ids) == 80 - held.num_rows
    assert tables.lineage()["drawn"]["rows"] == held.num_rows > 0
    assert prepare_annotations(config, MapsConfig(), tmp_path / "t", with_maps=False) == tables


def test_a_further_source_without_held_out_rows_is_named(world, tmp_path):
    one = tmp_path / "one.parquet"
    pq.write_table(pq.read_table(world / "train.parquet").slice(0, 1), one)
    config = AnnotationDataConfig(path=str(world), ingest="inline", holdout=0.001, more={"few": {"path": str(one)}})
    with pytest.raises(DataError, match="data.more.few.path .*one.parquet: 0 held-out rows"):
        prepare_annotations(config, MapsConfig(), tmp_path / "t", with_maps=False)


@pytest.mark.parametrize("name", ["f1", "holdout", "a/b", ""])
def test_a_further_source_takes_no_name_that_is_taken(name):
    with pytest.raises(ValueError, match="more names"):
        AnnotationDataConfig(path="x", more={name: {"path": "y"}})


def test_a_run_trains_judges_evaluates_and_exports(world, tmp_path):
    values = yaml.safe_load(
        """
        kind: rfnet
        name: tiny
        model: {kind: rfnet, image_size: 32, width: 16, heads: 2, trunk: {stem: 8, widths: [8, 16], depths: [1, 1]}}
        training: {batch_size: 16, max_steps: 3, threads: 1}
        label_weights: inverse
        warm_up: 0.4
        prompt_loss: 0.3
        """
    )
    more = {"again": {"path": str(world), "split": "holdout"}}
    values |= {"data": {"path": str(world), "ingest": "inline", "more": more}, "runs_dir": str(tmp_path)}
    run, report = kinds.perform(kinds.make_job(values, "tiny"), "train")
    assert 0 <= report["metrics"]["feedback/f1"] <= 1
    assert report["metrics"]["feedback/pictures"] == 48
    assert report["metrics"]["feedback/again/pictures"] == 144
    right = 144 * report["metrics"]["feedback/again/accuracy"]
    assert right == pytest.approx(round(right)) and right >= 48 * report["metrics"]["feedback/accuracy"]
    titles = [plot.title for plot in run.plots]
    assert titles[0] == "Confusion matrix" and "Confusion matrix of again" in titles
    assert (run.folder / "plots" / "confusion.png").stat().st_size > 1000
    inspector = load_inspector(run.folder / "export" / "rfnet")
    _, again = kinds.perform(kinds.make_job(values, "tiny"), "evaluate")
    assert again["metrics"]["feedback/ap"] == report["metrics"]["feedback/ap"]
    kinds.perform(kinds.make_job(values, "tiny"), "export")
    assert load_inspector(run.folder / "export" / "rfnet").content_hash == inspector.content_hash
    assert json.loads((run.folder / "report.json").read_text())["verb"] == "export"
