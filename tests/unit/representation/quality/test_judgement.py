"""The gate over creatives whose SKUs can be told by their pictures."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, ImageDraw

from adray import kinds
from adray.data.schema import IMAGE
from adray.errors import DataError

SKUS, EACH = 24, 4
TINY = {"kind": "resnet", "image_size": 32, "depths": [1], "widths": [16]}


def picture(sku: int, number: int) -> bytes:
    look, place = np.random.default_rng(sku), np.random.default_rng(1000 + EACH * sku + number)
    canvas = Image.new("RGB", (64, 64), tuple(look.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(canvas)
    colour = tuple(look.integers(0, 255, 3).tolist())
    for _ in range(3):
        x, y = place.integers(0, 40, 2).tolist()
        draw.rectangle((x, y, x + 20, y + 20), fill=colour)
    stream = io.BytesIO()
    canvas.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    rows = [(sku, number) for sku in range(SKUS) for number in range(EACH)]
    images = [{"bytes": picture(*row), "path": None} for row in rows]
    images[1] = images[0]  # an exact copy
    table = pa.table(
        {
            "creative_id": [f"c{sku:02d}-{number}" for sku, number in rows],
            "sku_id": [f"s{sku:02d}" for sku, _ in rows],
            "image": pa.array(images, IMAGE),
            "copy": [f"offer {sku} {number}" for sku, number in rows],
            "created_at": pa.array(range(len(rows)), pa.timestamp("ms", tz="UTC")),
            "elements": pa.array([[("badge", "top" if sku % 2 else "eco")] for sku, _ in rows], pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, folder / "creatives.parquet")
    products = pa.table(
        {"sku_id": [f"s{sku:02d}" for sku in range(SKUS)], "title": ["t"] * SKUS, "category": ["ab"[s % 2] for s in range(SKUS)]}
    )
    pq.write_table(products, folder / "products.parquet")
    values = {
        "kind": "embedding",
        "name": "new",
        "runs_dir": str(folder / "runs"),
        "data": {"creatives": str(folder / "creatives.parquet"), "products": str(folder / "products.parquet")},
        "encoder": TINY,
        "evaluation": {"resamples": 200, "query_share": 0.4, "sheet_queries": 4},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    kinds.perform(kinds.load_job(path), "embed")
    return path


def evaluate(path, *overrides):
    run, report = kinds.perform(kinds.load_job(path, overrides), "evaluate")
    return run, report["metrics"], json.loads((run.folder / "evaluation" / "verdict.json").read_text())


@pytest.fixture(scope="module")
def judged(embedded):
    return evaluate(embedded)


def test_every_split_and_task_is_measured_with_chance_and_lift(judged):
    _, metrics, _ = judged
    for split in ("random", "new_sku", "new_time"):
        for task, key in (("same_sku", "recall_at_10"), ("image_to_image", "recall_at_10"), ("category", "share_right")):
            name = f"representation/{split}/{task}"
            assert metrics[f"{name}/{key}_low"] <= metrics[f"{name}/{key}"] <= metrics[f"{name}/{key}_high"]
            assert metrics[f"{name}/lift"] == pytest.approx(metrics[f"{name}/{key}"] / metrics[f"{name}/chance"])
    # A random network still sees colours.
    assert metrics["representation/new_sku/image_to_image/lift"] > 3
    assert metrics["representation/random/probe/category"] > 0.5
    assert "representation/new_sku/probe/element_badge" in metrics


def test_copies_are_left_out_and_counted(judged):
    _, metrics, _ = judged
    assert metrics["representation/judged"] == SKUS * EACH - 1
    assert metrics["representation/near_duplicates"] == 1


def test_an_encoder_that_cannot_read_copy_fails_for_that_reason_alone(judged):
    _, metrics, verdict = judged
    assert not verdict["passed"]
    assert metrics["representation/gate_passed"] == 0
    assert [finding["name"] for finding in verdict["findings"] if not finding["passed"]] == ["copy adds to the picture"]
    assert metrics["representation/ablation/full_minus_image_only"] == 0
    assert metrics["representation/ablation/full_minus_image_shuffled_low"] > 0


def test_the_page_frames_right_neighbours_green(judged):
    run, _, _ = judged
    page = np.asarray(Image.open(run.plots[-1].path))
    green, red = ((page == colour).all(axis=2).sum() for colour in ((30, 160, 70), (205, 60, 50)))
    assert green > 0
    assert red > 0


def test_judging_again_embeds_nothing_again(embedded, judged):
    folder = judged[0].folder / "evaluation"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")}
    assert before
    assert evaluate(embedded)[1]["representation/uniformity"] == judged[1]["representation/uniformity"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")} == before


def test_the_same_version_as_previous_neither_drops_nor_improves(embedded, judged):
    _, metrics, verdict = evaluate(embedded, f"evaluation.previous={judged[0].folder}")
    changes = [value for name, value in metrics.items() if name.endswith("/change")]
    assert changes and set(changes) == {0.0}
    reasons = {finding["name"]: finding["passed"] for finding in verdict["findings"]}
    assert reasons["image_to_image (new_sku) improves"] is False
    assert all(passed for name, passed in reasons.items() if "does not drop" in name)


def test_an_index_is_judged_apart_from_the_vectors(embedded, judged):
    folder = judged[0].folder
    values = {
        "kind": "index",
        "name": "i",
        "runs_dir": str(folder.parent),
        "embeddings": str(folder / "embeddings"),
        "factory": "IVF16,Flat",
    }
    kinds.perform(kinds.make_job({**values, "replace": True}, "test"), "index")
    _, metrics, verdict = evaluate(embedded, f"evaluation.index={folder.parent / 'i' / 'index'}")
    assert metrics["representation/ann_recall"] < 0.99
    assert "the index finds what exact search finds" in [f["name"] for f in verdict["findings"] if not f["passed"]]
    assert metrics["representation/random/same_sku/recall_at_10"] == judged[1]["representation/random/same_sku/recall_at_10"]
    kinds.perform(kinds.make_job({**values, "replace": True, "nprobe": 16}, "test"), "index")
    assert evaluate(embedded, f"evaluation.index={folder.parent / 'i' / 'index'}")[1]["representation/ann_recall"] > 0.99


def test_another_encoder_than_the_vectors_is_refused(embedded, judged):
    with pytest.raises(DataError, match="of run 'new' and this config differ: transform"):
        evaluate(embedded, "job.at_least=128")
