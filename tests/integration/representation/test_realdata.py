"""The room on real pictures and copy: embedded, judged, and attributes told by classifiers on real vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray import kinds
from adray.data.schema import IMAGE
from adray.representation.picture_folder import creatives_of_folder
from tests.helpers.wandb_file import read_records

pytestmark = pytest.mark.realdata

ROOT = Path(__file__).parents[3]


def real(name: str) -> Path:
    folder = Path(os.environ.get("ADRAY_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ADRAY_DATA")
    return folder


def perform(verb: str, folder: Path, **values) -> dict:
    return kinds.perform(kinds.make_job({"runs_dir": str(folder), **values}, values["name"]), verb)[1]["metrics"]


def test_a_shops_catalogue_is_embedded_and_judged(tmp_path):
    shop = real("eshop")
    items = json.loads((shop / "catalog.json").read_text(encoding="utf-8"))
    ids = [str(item["Id"]) for item in items]
    images = pa.array([{"bytes": None, "path": str(shop / f"{one}.webp")} for one in ids], IMAGE)
    copies = [f"{item['Name']}. {item['Description']}" for item in items]
    pq.write_table(pa.table({"creative_id": ids, "sku_id": ids, "image": images, "copy": copies}), tmp_path / "creatives.parquet")
    pq.write_table(pa.table({"sku_id": ids, "category": [item["Type"] for item in items]}), tmp_path / "products.parquet")
    values = {
        "kind": "embedding",
        "name": "shop",
        "data": {"creatives": str(tmp_path / "creatives.parquet"), "products": str(tmp_path / "products.parquet")},
        "encoder": {"kind": "dual_tower", "image_size": 64, "max_tokens": 32},
        "job": {"threads": 1, "at_least": 64},
        "evaluation": {"primary": "category", "resamples": 200},
        "tracking": {"wandb": "offline"},
    }
    made = perform("embed", tmp_path, **values)
    assert (made["representation/embed/rows"], made["representation/embed/quarantined"]) == (101, 0)
    found = perform("evaluate", tmp_path, **values)
    assert found["representation/judged"] == 101
    # Eight kinds of goods: by chance one neighbour in eight is of the query's kind, of pretrained vectors most are.
    assert found["representation/new_sku/category/chance"] < 0.2
    assert found["representation/new_sku/category/share_right_low"] > 0.4
    assert found["representation/gate_passed"] in (0.0, 1.0)
    records = [b"".join(read_records(path)) for path in sorted((tmp_path / "shop" / "wandb").glob("offline-run-*/*.wandb"))]
    assert len(records) == 2
    assert b"representation/embed/rows_per_s" in records[0]
    assert b"representation/uniformity" in records[1] and b"nearest_neighbours" in records[1]


def test_classes_of_photos_are_told_from_their_vectors(tmp_path):
    photos = creatives_of_folder(str(real("clothing") / "validation"))
    pq.write_table(photos.drop_columns(["category"]), tmp_path / "creatives.parquet")
    pq.write_table(pa.table({"creative_id": photos["creative_id"], "style": photos["category"]}), tmp_path / "labels.parquet")
    perform(
        "embed",
        tmp_path,
        kind="embedding",
        name="photos",
        data={"creatives": str(tmp_path / "creatives.parquet")},
        encoder={"kind": "dual_tower", "modalities": "image", "image_size": 64},
        job={"threads": 1, "at_least": 64},
    )
    told = perform(
        "train",
        tmp_path,
        kind="attribute_heads",
        name="heads",
        data={"embeddings": str(tmp_path / "photos" / "embeddings"), "labels": str(tmp_path / "labels.parquet"), "held_out": 0.5},
        heads=["style"],
        target_precision=0.8,
        training={"epochs": 20, "batch_size": 32, "threads": 1},
    )
    assert told["data/rows/train"] + told["data/rows/calibration"] + told["data/rows/test"] == photos.num_rows == 341
    assert told["representation/heads/style/accuracy"] > told["representation/heads/style/most_common"] + 0.15
    assert told["representation/heads/style/told"] > 0.1
    assert told["representation/heads/style/precision"] > 0.7
