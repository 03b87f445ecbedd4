"""Ingesting standard tables, mapped logs, pictures and tars: what is kept, what is lost and why."""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from adray.data.config import DataConfig
from adray.data.ingest import ingest
from adray.data.schema import CANDIDATE, IMAGE, QUARANTINE
from adray.data.stream import TableStream
from adray.data.tables import Tables, read_tables
from adray.errors import DataError

pytestmark = pytest.mark.usefixtures("ray_cluster")

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)


def picture(colour: int, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (colour, 0, 0)).save(stream, kind)
    return stream.getvalue()


def creatives(count: int) -> pa.Table:
    return pa.table(
        {
            "creative_id": [f"c{i}" for i in range(count)],
            "sku_id": [f"s{i // 3}" for i in range(count)],
            "image": pa.array([{"bytes": picture(i % 250), "path": None} for i in range(count)], IMAGE),
            "elements": pa.array([[("badge", f"b{i % 4}")] for i in range(count)], pa.map_(pa.string(), pa.string())),
        }
    )


def impressions(count: int) -> pa.Table:
    rows = range(count)
    return pa.table(
        {
            "request_id": [f"r{i}" for i in rows],
            "sku_id": [f"s{i % 10}" for i in rows],
            "candidates": pa.array(
                [[{"creative_id": f"c{i % 10 * 3 + j}", "propensity": 0.5} for j in range(2 + i % 2)] for i in rows], pa.list_(CANDIDATE)
            ),
            "exposed": pa.array([i % 2 for i in rows], pa.int32()),
            "clicked": pa.array([int(i % 7 == 0) for i in rows], pa.int8()),
            "timestamp": pa.array([START + datetime.timedelta(minutes=i) for i in rows], pa.timestamp("ms", tz="UTC")),
            "user_id": [f"u{i % 17}" for i in rows],
            "user_history": [[f"s{j}" for j in range(i % 4)] for i in rows],
            "sku_price": pa.array([i / 7 for i in rows], pa.float32()),
        }
    )


def write_world(folder: Path, log: pa.Table | None = None, things: pa.Table | None = None) -> Path:
    (folder / "impressions").mkdir(parents=True)
    log = impressions(1000) if log is None else log
    pq.write_table(log.slice(0, 600), folder / "impressions" / "part-0.parquet", row_group_size=100)
    pq.write_table(log.slice(600), folder / "impressions" / "part-1.parquet", row_group_size=100)
    pq.write_table(creatives(30) if things is None else things, folder / "creatives.parquet")
    pq.write_table(pa.table({"sku_id": [f"s{i}" for i in range(10)], "title": ["t"] * 10}), folder / "products.parquet")
    pq.write_table(log.slice(0, 5).drop_columns(["exposed", "clicked"]), folder / "requests.parquet")
    return folder


def replace_rows(table: pa.Table, column: str, values: dict[int, object]) -> pa.Table:
    cells = table.column(column).to_pylist()
    for row, value in values.items():
        cells[row] = value
    return table.set_column(table.schema.get_field_index(column), column, pa.array(cells, table.schema.field(column).type))


def quarantined(tables: Tables) -> dict[str, tuple[str, str, str]]:
    rows = pq.read_table(tables.quarantine)
    assert rows.schema.names == QUARANTINE.required.names
    return {row["key"]: (row["table"], row["stage"], row["reason"]) for row in rows.to_pylist()}


def digest(folder: str) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(folder).glob("*.parquet"))}


def test_a_clean_world(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    config = DataConfig(path=str(world), holdout=0.2, row_group_rows=64)
    tables = ingest(config, tmp_path / "tables")
    assert tables.rows == {"creatives": 30, "products": 10, "train": 800, "holdout": 200}
    assert tables.quarantined == {"creatives": 0, "products": 0, "impressions": 0} and quarantined(tables) == {}
    assert tables.requests == str(world / "requests.parquet") and tables.truth is None
    assert tables.train_until == (START + datetime.timedelta(minutes=799)).isoformat()
    train, late = pq.read_table(tables.train), pq.read_table(str(tables.holdout))
    assert train.equals(impressions(1000).slice(0, 800).select(train.column_names))
    assert late.equals(impressions(1000).slice(800).select(late.column_names))
    assert pq.read_table(str(tables.creatives)).equals(creatives(30))
    assert pq.ParquetFile(Path(tables.train) / "part-00000.parquet").metadata.row_group(0).num_rows == 64
    assert read_tables(tmp_path / "tables") == tables
    assert not list(tmp_path.glob("tables/.*")) and not list(tmp_path.glob(".tables*"))
    # The tables feed training.
    stream = TableStream(tables.train, seed=0, batch_size=64, micro_batch_size=64, collate=lambda t: t.num_rows)
    assert sum(stream.batches(0, 0, 0, 1)) == 800


def test_same_input_same_bytes_and_reuse(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    config = DataConfig(path=str(world), holdout=0.2)
    first = ingest(config, tmp_path / "a")
    assert digest(first.train) == digest(ingest(config, tmp_path / "b").train)
    mark = (tmp_path / "a" / "tables.json").stat().st_mtime_ns
    assert ingest(config.model_copy(update={"lanes": 4}), tmp_path / "a") == first
    assert (tmp_path / "a" / "tables.json").stat().st_mtime_ns == mark
    assert ingest(config.model_copy(update={"holdout": 0.1}), tmp_path / "a").rows["holdout"] == 100
    part = world / "impressions" / "part-1.parquet"
    os.utime(part, ns=(1, 1))
    assert ingest(config, tmp_path / "a").fingerprint != first.fingerprint


def test_exactly_the_bad_rows_are_lost(tmp_path: Path) -> None:
    log = impressions(1000)
    log = log.set_column(log.schema.get_field_index("clicked"), "clicked", log["clicked"].cast(pa.int64()))
    log = replace_rows(log, "clicked", {3: 2, 700: 300})
    log = replace_rows(log, "exposed", {10: 2, 11: -1})
    log = replace_rows(log, "sku_id", {20: None})
    log = replace_rows(
        log,
        "candidates",
        {
            30: [],
            31: [{"creative_id": "c1"}, {"creative_id": "c1"}],
            32: [{"creative_id": "c1", "propensity": 1.5}, {"creative_id": "c2"}],
            33: [{"creative_id": "c1"}, {"creative_id": "nobody"}],
            35: [{"creative_id": "c1", "impressions": 3, "clicks": 4}, {"creative_id": "c2"}],
        },
    )
    log = replace_rows(log, "timestamp", {40: None})
    things = replace_rows(
        creatives(30), "image", {4: {"bytes": b"\xff\xd8\xff broken", "path": None}, 5: {"bytes": picture(3)[:200], "path": None}}
    )
    world = write_world(tmp_path / "world", log, pa.concat_tables([things, things.slice(7, 1)]))
    tables = ingest(DataConfig(path=str(world), holdout=0.2, quarantine_limit=0.2), tmp_path / "tables")
    lost = quarantined(tables)
    reasons = {key: reason for key, (_, _, reason) in lost.items()}
    assert reasons.pop("c4").startswith("image: ") and reasons.pop("c5").startswith("image: ")
    assert reasons.pop("r700").startswith("clicked: 300 is not int8")
    assert reasons == {
        "r3": "clicked is 2, not 0 or 1",
        "r10": "exposed index 2 is outside its list of 2",
        "r11": "exposed index -1 is outside its list of 3",
        "r20": "sku_id is null",
        "r30": "candidate list is empty",
        "r31": "creative 'c1' appears twice in the list",
        "r32": "a propensity is outside [0, 1]",
        "r33": "creative 'nobody' has no row in the creatives",
        "r35": "a candidate has more clicks than impressions",
        "r40": "timestamp is null, and data.holdout splits by it",
        "c7": "creative_id appears before in the same part",
    }
    assert lost["r33"][:2] == ("impressions", "reference") and lost["c4"][:2] == ("creatives", "image")
    bad = {int(key[1:]) for key in lost if key.startswith("r")}
    kept = pq.read_table(tables.train)["request_id"].to_pylist() + pq.read_table(str(tables.holdout))["request_id"].to_pylist()
    # Also the impressions of creatives c4 and c5, whose pictures are corrupt, are kept.
    assert kept == [f"r{i}" for i in range(1000) if i not in bad]
    assert tables.quarantined == {"creatives": 3, "products": 0, "impressions": 11}
    assert tables.rows["creatives"] == 28


def test_too_many_bad_rows_stop_and_can_be_read(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", replace_rows(impressions(1000), "clicked", dict.fromkeys(range(50), 5)))
    with pytest.raises(DataError) as caught:
        ingest(DataConfig(path=str(world)), tmp_path / "tables")
    message = str(caught.value)
    assert "'impressions': 50 of 1000 rows (5.00%) cannot be used, limit 1.00%; first r0: clicked is 5, not 0 or 1" in message
    kept_at = tmp_path / "tables.quarantine"
    assert str(kept_at) in message and pq.read_table(kept_at).num_rows == 50
    assert not (tmp_path / "tables").exists()
    assert ingest(DataConfig(path=str(world), quarantine_limit=0.05), tmp_path / "tables").rows["train"] == 950
    with pytest.raises(DataError, match="limit 1.00%"):
        ingest(DataConfig(path=str(world)), tmp_path / "tables")


def test_a_creative_repeated_in_another_file(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    (world / "creatives.parquet").unlink()
    (world / "creatives").mkdir()
    pq.write_table(creatives(20), world / "creatives" / "a.parquet")
    pq.write_table(creatives(30).slice(18), world / "creatives" / "b.parquet")
    tables = ingest(DataConfig(path=str(world), quarantine_limit=0.1), tmp_path / "tables")
    assert quarantined(tables) == {f"c{i}": ("creatives", "rules", "creative_id appears before in another part") for i in (18, 19)}
    assert pq.read_table(str(tables.creatives))["creative_id"].to_pylist() == [f"c{i}" for i in range(30)]


@pytest.fixture
def candidate_csv(tmp_path: Path) -> Path:
    """One row per candidate, rows of a decision far apart."""
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["req", "item", "creative", "shown", "click", "when", "age", "price"])
        for place in range(3):
            for i in range(40):
                click = "oops" if (i, place) == (5, 1) else int(i % 5 == 0)
                writer.writerow(
                    [f"q{i}", i % 4, f"k{i % 4}-{place}", int(place == i % 3), click, f"2024-01-01 00:{i:02d}:00", 20 + i, i / 2]
                )
    return path


MAP = {
    "request_id": "req",
    "sku_id": "item",
    "creative_id": "creative",
    "exposed": "shown",
    "clicked": "click",
    "timestamp": "when",
    "user_age": "age",
    "sku_price": "price",
}


def test_mapped_rows_are_grouped(candidate_csv: Path, tmp_path: Path) -> None:
    config = DataConfig(path=str(candidate_csv), adapter="mapped", columns=MAP, holdout=0.25, quarantine_limit=0.1)
    tables = ingest(config, tmp_path / "tables")
    lost = quarantined(tables)
    # q5 exposed its candidate 5 % 3 = 2, whose click is fine; the wrong text stands on a row that was not shown.
    assert lost == {}
    train = pq.read_table(tables.train)
    assert tables.rows == {"train": 30, "holdout": 10}
    row = train.slice(7, 1).to_pylist()[0]
    assert row["request_id"] == "q7" and row["sku_id"] == "3" and row["user_age"] == 27 and row["sku_price"] == 3.5
    assert [c["creative_id"] for c in row["candidates"]] == ["k3-0", "k3-1", "k3-2"]
    assert row["exposed"] == 1 and row["clicked"] == 0
    assert row["timestamp"] == START + datetime.timedelta(minutes=7)
    assert [r["clicked"] for r in train.to_pylist()] == [int(i % 5 == 0) for i in range(30)]


def test_mapped_errors_name_the_nearest_column(candidate_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'clicks' \(mapped from 'clicked' in data.columns\); did you mean 'click'\?"):
        ingest(DataConfig(path=str(candidate_csv), adapter="mapped", columns=MAP | {"clicked": "clicks"}), tmp_path / "t")


def test_mapped_lists(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "req,item,shown_ids,p,pos,click\nq0,a,x|y|z,0.5|0.25|0.25,0,1\nq1,a,x|y,0.5,1,0\nq2,b,z,1,0,oops\nq3,b,x|z,0.1|0.9,1,0\ntoo,short\n"
    )
    columns = {"request_id": "req", "sku_id": "item", "candidates": "shown_ids", "propensity": "p", "exposed": "pos", "clicked": "click"}
    tables = ingest(DataConfig(path=str(path), adapter="mapped", columns=columns, quarantine_limit=0.9), tmp_path / "t")
    rows = pq.read_table(tables.train).to_pylist()
    assert [r["request_id"] for r in rows] == ["q0", "q3"]
    assert [(c["creative_id"], c["propensity"]) for c in rows[0]["candidates"]] == [("x", 0.5), ("y", 0.25), ("z", 0.25)]
    lost = quarantined(tables)
    assert lost["q1"] == ("impressions", "adapt", "lists creative_id, propensity differ in length")
    assert lost["q2"][2].startswith("clicked: 'oops' is not int8")
    assert any("2 columns instead of 6" in reason for _, _, reason in lost.values())


def test_pictures_and_tars_become_creatives(tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    ids = ["s0/a", "s0/b"]
    row = {"request_id": "r", "sku_id": "s0", "candidates": [{"creative_id": i} for i in ids], "exposed": 0, "clicked": 1}
    pq.write_table(pa.Table.from_pylist([row]), log)
    folder = tmp_path / "pictures" / "s0"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(picture(200))
    (folder / "b.png").write_bytes(picture(100, "PNG"))
    (folder / "c.webp").write_bytes(b"RIFFnothing")
    tables = ingest(DataConfig(path=str(log), creatives=str(tmp_path / "pictures"), quarantine_limit=0.5), tmp_path / "a")
    rows = pq.read_table(str(tables.creatives)).to_pylist()
    assert [(r["creative_id"], r["sku_id"]) for r in rows] == [("s0/a", "s0"), ("s0/b", "s0")]
    assert rows[1]["image"]["bytes"] == picture(100, "PNG")
    assert list(quarantined(tables)) == ["s0/c"]

    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, content in {
            "s0/a.jpg": picture(200),
            "s0/a.txt": "Läuft!\n".encode(),
            "s0/a.json": json.dumps({"elements": {"badge": 7}}).encode(),
            "s0/b.png": picture(100, "PNG"),
            "s0/c.jpg": picture(1),
            "s0/c.json": b"{",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    tables = ingest(DataConfig(path=str(log), creatives=str(tmp_path / "shard.tar"), quarantine_limit=0.5), tmp_path / "b")
    rows = pq.read_table(str(tables.creatives)).to_pylist()
    assert [(r["creative_id"], r["sku_id"], r["copy"], r["elements"]) for r in rows] == [
        ("s0/a", "s0", "Läuft!", [("badge", "7")]),
        ("s0/b", "s0", None, None),
    ]
    assert quarantined(tables)["s0/c"][1] == "read"


def test_pictures_by_relative_path(tmp_path: Path) -> None:
    things = creatives(30).drop_columns(["image"]).append_column("image", pa.array([f"pictures/{i}.jpg" for i in range(30)]))
    world = write_world(tmp_path / "world", things=things)
    (world / "pictures").mkdir()
    for i in range(29):
        (world / "pictures" / f"{i}.jpg").write_bytes(picture(i))
    tables = ingest(DataConfig(path=str(world), quarantine_limit=0.1), tmp_path / "tables")
    assert pq.read_table(str(tables.creatives))["image"].to_pylist()[3] == {"bytes": None, "path": str(world / "pictures" / "3.jpg")}
    assert list(quarantined(tables)) == ["c29"]


def test_a_table_without_time_cannot_be_split(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", impressions(100).drop_columns(["timestamp"]))
    with pytest.raises(DataError, match="timestamp"):
        ingest(DataConfig(path=str(world), holdout=0.2, quarantine_limit=1.0), tmp_path / "tables")
    assert ingest(DataConfig(path=str(world)), tmp_path / "tables").train_until is None


def test_row_counts_do_not_depend_on_cut(tmp_path: Path) -> None:
    """Random times with ties: the held-out share is the largest whole number of moments that fits."""
    times = np.sort(np.random.default_rng(0).integers(0, 50, 1000))
    log = impressions(1000)
    stamps = pa.array([START + datetime.timedelta(days=int(t)) for t in times], pa.timestamp("ms", tz="UTC"))
    log = log.set_column(log.schema.get_field_index("timestamp"), "timestamp", stamps)
    tables = ingest(DataConfig(path=str(write_world(tmp_path / "world", log)), holdout=0.3), tmp_path / "t")
    expected = max(count for day in range(50) if (count := int((times >= day).sum())) <= 300)
    assert tables.rows["holdout"] == expected


def test_rows_that_drop_weeks_leaves_out_are_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Three of five arms lie in the weeks that the archive's authors doubt; they are neither rows nor quarantined."""
    arms = {
        "clickability_test_id": ["t1", "t2", "t1", "t2", "t2"],
        "headline": ["a", "b", "c", "d", "e"],
        "lede": ["l"] * 5,
        "excerpt": ["e"] * 5,
        "eyecatcher_id": ["p"] * 5,
        "impressions": [10] * 5,
        "clicks": [1] * 5,
        "test_week": [201411, 201330, 201411, 201325, 201402],
    }
    pq.write_table(pa.table(arms), tmp_path / "arms.parquet")
    with caplog.at_level("INFO", logger="adray"):
        tables = ingest(DataConfig(path=str(tmp_path / "arms.parquet"), adapter="upworthy"), tmp_path / "tables")
    assert (tables.rows, tables.quarantined) == ({"creatives": 2, "train": 1}, {"creatives": 0, "impressions": 0})
    assert tables.left_out == {"creatives": 3, "impressions": 3}
    assert json.loads((tmp_path / "tables" / "tables.json").read_text())["left_out"] == tables.left_out
    assert "table 'impressions': data.drop_weeks leaves out 3 source rows" in caplog.messages
    assert ingest(DataConfig(path=str(tmp_path / "arms.parquet"), adapter="upworthy"), tmp_path / "tables").left_out == tables.left_out
