"""Columns brought to their declared types."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from adray.data.conform import conform, target_schema
from adray.data.schema import CANDIDATE, CREATIVES, IMAGE, IMPRESSIONS, PRODUCTS
from adray.errors import DataError

UTC = datetime.timezone.utc


def log(**columns: object) -> pa.Table:
    return pa.table(
        {"request_id": ["a", "b"], "sku_id": ["s", "s"], "candidates": [[{"creative_id": "x"}], [{"creative_id": "y"}]]} | columns
    )


def conformed(table: pa.Table) -> pa.Table:
    done = conform(table, target_schema(table.schema, IMPRESSIONS, "log"))
    assert done.problems == []
    return done.table


def test_types_are_cast_where_nothing_is_lost() -> None:
    table = log(
        clicked=[1.0, 0.0],
        exposed=pa.array([0, 0], pa.int64()),
        user_age=pa.array([30, 31], pa.uint8()),
        user_city=pa.array(["x", "y"]).dictionary_encode(),
        user_history=pa.array([["s1"], None], pa.large_list(pa.large_string())),
        sku_price=pa.array([1.5, None], pa.float64()),
        cross_seen=[True, None],
    )
    done = conformed(table)
    kinds = {f.name: f.type for f in done.schema}
    assert kinds["clicked"] == pa.int8() and kinds["exposed"] == pa.int32()
    assert kinds["user_age"] == pa.int64() and kinds["user_city"] == pa.string() and kinds["sku_price"] == pa.float32()
    assert kinds["user_history"] == pa.list_(pa.string()) and kinds["cross_seen"] == pa.string()
    assert done["candidates"].type == pa.list_(CANDIDATE)
    assert done["candidates"].to_pylist()[1] == [{"creative_id": "y", "propensity": None, "impressions": None, "clicks": None}]
    assert done["user_history"].to_pylist() == [["s1"], None]


def test_integer_ids_become_text() -> None:
    table = pa.table({"request_id": [7, 8], "sku_id": [1, 2], "candidates": pa.array([[5, 6], None], pa.list_(pa.int64()))})
    done = conformed(table)
    assert done["request_id"].to_pylist() == ["7", "8"]
    assert [c["creative_id"] for c in done["candidates"].to_pylist()[0]] == ["5", "6"]
    assert done["candidates"].to_pylist()[1] is None


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2024-01-01 10:00:00", "2024-01-01T12:00:00.5"], [(10, 0, 0), (12, 0, 500_000)]),
        (["2024-01-01 10:00:00+02:00", "2024-01-01 12:00:00Z"], [(8, 0, 0), (12, 0, 0)]),
        (pa.array([datetime.datetime(2024, 1, 1, 3)] * 2, pa.timestamp("ns")), [(3, 0, 0), (3, 0, 0)]),
        (pa.array([datetime.date(2024, 1, 1)] * 2, pa.date32()), [(0, 0, 0), (0, 0, 0)]),
    ],
)
def test_times(times: object, expected: list[tuple[int, int, int]]) -> None:
    wanted = [datetime.datetime(2024, 1, 1, h, m, 0, us, tzinfo=UTC) for h, m, us in expected]
    assert conformed(log(timestamp=times))["timestamp"].to_pylist() == wanted


def test_single_bad_cells_are_found_and_nulled() -> None:
    count = 1000
    clicked = ["1"] * count
    clicked[17], clicked[999] = "yes", "300"
    table = pa.table(
        {"request_id": ["r"] * count, "sku_id": ["s"] * count, "candidates": [[{"creative_id": "x"}]] * count, "clicked": clicked}
    )
    done = conform(table, target_schema(table.schema, IMPRESSIONS, "log"))
    assert [(row, stage) for row, stage, _ in done.problems] == [(17, "type"), (999, "type")]
    assert done.problems[0][2].startswith("clicked: 'yes' is not int8")
    values = done.table["clicked"].to_pylist()
    assert values[17] is None and values[999] is None and values.count(1) == count - 2


def test_bad_cell_within_a_list() -> None:
    table = log(candidates=[[{"creative_id": "x", "impressions": "4"}], [{"creative_id": "y", "impressions": "many"}]])
    done = conform(table, target_schema(table.schema, IMPRESSIONS, "log"))
    assert [row for row, _, _ in done.problems] == [1]
    assert done.table["candidates"].to_pylist()[0][0]["impressions"] == 4


def test_columns_that_are_wrong_are_named() -> None:
    with pytest.raises(DataError, match=r"log: column 'creativ_id' is not one of table 'creatives'; did you mean 'creative_id'\?"):
        target_schema(pa.schema([("creativ_id", pa.string()), ("sku_id", pa.string())]), CREATIVES, "log")
    with pytest.raises(DataError, match=r"table 'products' lacks column 'title'; did you mean 'titel'\?|column 'titel' is not one"):
        target_schema(pa.schema([("sku_id", pa.string()), ("titel", pa.string())]), PRODUCTS, "log")
    with pytest.raises(DataError, match=r"table 'impressions' lacks column 'candidates'; it has request_id, sku_id"):
        target_schema(pa.schema([("request_id", pa.string()), ("sku_id", pa.string())]), IMPRESSIONS, "log")
    with pytest.raises(DataError, match=r"'age' is not one of table 'impressions' \(features begin with user_, sku_, cross_\)"):
        target_schema(log(age=[1, 2]).schema, IMPRESSIONS, "log")
    with pytest.raises(DataError, match="feature column 'user_vector' has type list<"):
        target_schema(log(user_vector=[[1.0], [2.0]]).schema, IMPRESSIONS, "log")
    with pytest.raises(DataError, match=r"'timestamp' has type int64.*; store a timestamp type or ISO 8601 text"):
        conformed(log(timestamp=[1, 2]))
    with pytest.raises(DataError, match=r"candidates have a member 'propensty'; did you mean 'propensity'\?"):
        conformed(log(candidates=[[{"creative_id": "x", "propensty": 1.0}], []]))


def test_images_and_maps() -> None:
    def creatives(**columns: object) -> dict:
        table = pa.table({"creative_id": ["a", "b"], "sku_id": ["s", "s"]} | columns)
        done = conform(table, target_schema(table.schema, CREATIVES, "creatives"))
        assert done.problems == []
        return {name: done.table[name].to_pylist() for name in columns}

    assert creatives(image=[b"1", None])["image"] == [{"bytes": b"1", "path": None}, None]
    assert creatives(image=["a.jpg", None])["image"] == [{"bytes": None, "path": "a.jpg"}, None]
    assert creatives(image=pa.array([{"path": "p"}, {"path": None}]))["image"] == [{"bytes": None, "path": "p"}, None]
    assert creatives(image=pa.array([{"bytes": b"1", "path": None}, None], IMAGE))["image"] == [{"bytes": b"1", "path": None}, None]
    assert creatives(elements=pa.array([{"badge": "x", "n": 3}, {"badge": None, "n": 4}]))["elements"] == [
        [("badge", "x"), ("n", "3")],
        [("n", "4")],
    ]
    with pytest.raises(DataError, match=r"'image' has type int64.*; store struct<bytes, path>, bytes, or a path as text"):
        creatives(image=[1, 2])
