"""Each rule of a row, alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.data.conform import target_schema
from adray.data.hashing import hash_strings
from adray.data.schema import CANDIDATE, CREATIVES, IMPRESSIONS, REQUESTS
from adray.data.validate import Rules, split_rows

GOOD = {
    "request_id": "r",
    "sku_id": "s",
    "candidates": [{"creative_id": "a", "propensity": 0.4}, {"creative_id": "b", "propensity": 0.6}],
    "exposed": 1,
    "clicked": 0,
    "position": 0,
    "sku_price": 1.0,
}
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("sku_id", pa.string()),
        ("candidates", pa.list_(CANDIDATE)),
        ("exposed", pa.int32()),
        ("clicked", pa.int8()),
        ("position", pa.int32()),
        ("sku_price", pa.float32()),
    ]
)


def reasons(*changes: dict, rules: dict | None = None, schema: object = IMPRESSIONS) -> list[str | None]:
    """The reason of each row, None for good ones."""
    rows = [GOOD | {"request_id": f"r{i}"} | change for i, change in enumerate(changes)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    good, bad = split_rows(table, Rules(schema, target_schema(SCHEMA, IMPRESSIONS, "t"), **(rules or {})), "t")
    found = dict(zip(bad["key"].to_pylist(), bad["reason"].to_pylist(), strict=True))
    kept = set(good["request_id"].to_pylist())
    assert len(kept) + len(found) == len(rows) and not kept & set(found)
    return [found.get(f"r{i}") for i in range(len(rows))]


def candidates(*items: dict) -> dict:
    return {"candidates": list(items)}


AGGREGATED = {"exposed": None, "clicked": None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sku_id": None}, "sku_id is null"),
        ({"candidates": None}, "candidates is null"),
        ({"candidates": []}, "candidate list is empty"),
        (candidates({"creative_id": None}, {"creative_id": "b"}), "a candidate has no creative_id"),
        (candidates({"creative_id": "b"}, {"creative_id": "a"}, {"creative_id": "b"}), "creative 'b' appears twice in the list"),
        ({"clicked": 2}, "clicked is 2, not 0 or 1"),
        ({"clicked": -1}, "clicked is -1, not 0 or 1"),
        ({"exposed": 2}, "exposed index 2 is outside its list of 2"),
        ({"exposed": -1}, "exposed index -1 is outside its list of 2"),
        ({"exposed": None}, "clicked is given but exposed is not"),
        ({"clicked": None}, "exposed is given but clicked is not"),
        (AGGREGATED, "neither an exposed candidate nor impression counts"),
        (candidates({"creative_id": "a", "propensity": -0.1}, {"creative_id": "b"}), "a propensity is outside [0, 1]"),
        (candidates({"creative_id": "a", "propensity": 1.1}, {"creative_id": "b"}), "a propensity is outside [0, 1]"),
        (candidates({"creative_id": "a", "propensity": float("nan")}, {"creative_id": "b"}), "a propensity is outside [0, 1]"),
        (AGGREGATED | candidates({"creative_id": "a", "impressions": 3, "clicks": 4}), "a candidate has more clicks than impressions"),
        (AGGREGATED | candidates({"creative_id": "a", "impressions": 3, "clicks": -1}), "a count of impressions or clicks is negative"),
        ({"position": -1}, "position is negative"),
        ({"sku_price": float("inf")}, "sku_price is infinite"),
    ],
)
def test_one_broken_rule_costs_one_row(change: dict, reason: str) -> None:
    assert reasons({}, change, {}) == [None, reason, None]


@pytest.mark.parametrize(
    "change",
    [
        {"clicked": 1},
        {"exposed": 0},
        {"sku_price": None},
        {"sku_price": float("nan")},
        AGGREGATED | candidates({"creative_id": "a", "impressions": 3, "clicks": 3}, {"creative_id": "b"}),
        candidates({"creative_id": "a", "propensity": 0.0}, {"creative_id": "b", "propensity": 1.0}),
    ],
)
def test_what_is_allowed(change: dict) -> None:
    assert reasons(change) == [None]


def test_requests_need_no_outcome() -> None:
    assert reasons(AGGREGATED, schema=REQUESTS) == [None]


def test_creatives_that_do_not_exist() -> None:
    known = np.sort(hash_strings(["a", "c"]))
    found = reasons({}, candidates({"creative_id": "c"}, {"creative_id": "a"}), rules={"known_creatives": known})
    assert found == ["creative 'b' has no row in the creatives", None]
    assert reasons({}, rules={"known_creatives": np.zeros(0, np.int64)}) == ["creative 'a' has no row in the creatives"]


def test_reference_agrees_with_a_set() -> None:
    names = [f"c{i}" for i in range(200)]
    known = np.sort(hash_strings(names[::3]))
    found = reasons(*[candidates({"creative_id": name}) | {"exposed": 0} for name in names], rules={"known_creatives": known})
    assert [reason is None for reason in found] == [i % 3 == 0 for i in range(200)]


def test_time_is_needed_only_for_a_split() -> None:
    assert reasons({}, rules={"needs_time": True}) == ["timestamp is null, and data.holdout splits by it"]


def test_a_row_without_key_is_named_by_its_place() -> None:
    table = pa.table({"creative_id": ["a", None, "a"], "sku_id": ["s", "s", "s"]})
    good, bad = split_rows(table, Rules(CREATIVES, target_schema(table.schema, CREATIVES, "t")), "file.parquet")
    assert good["creative_id"].to_pylist() == ["a"]
    assert bad.to_pylist() == [
        {"table": "creatives", "key": "file.parquet row 1", "stage": "required", "reason": "creative_id is null"},
        {"table": "creatives", "key": "a", "stage": "rules", "reason": "creative_id appears before in the same part"},
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from("abcd"), max_size=4), st.integers(-1, 4), st.integers(-1, 2)), max_size=20))
def test_agrees_with_rules_written_row_by_row(rows: list[tuple[list[str], int, int]]) -> None:
    changes = [{"candidates": [{"creative_id": c} for c in ids], "exposed": e, "clicked": k} for ids, e, k in rows]
    expected = [bool(ids) and len(set(ids)) == len(ids) and 0 <= e < len(ids) and k in (0, 1) for ids, e, k in rows]
    assert [reason is None for reason in reasons(*changes)] == expected
