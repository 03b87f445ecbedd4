from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.data.hashing import hash_strings
from adray.data.schema import CANDIDATE
from adray.errors import DataError
from adray.ranking import accumulate
from adray.ranking.accumulate import Counts, LastSeen, Sample
from adray.ranking.arrays import RaggedArray
from adray.ranking.config import RankerModelConfig
from adray.ranking.sku_table import build_sku_table

CONFIG = RankerModelConfig.model_validate(
    {
        "heavy": {
            "user": [{"name": "user_age", "kind": "number", "buckets": 3}],
            "sku": ["sku_id", "sku_brand", {"name": "sku_price", "kind": "number"}, {"name": "sku_tags", "kind": "bag"}],
        },
        "history_prior": 10.0,
    }
)


def log(path, rows):
    """Rows: (sku, candidates, exposed, clicked, time, brand, price, tags); request ids count from 0."""
    names = ("request_id", "sku_id", "candidates", "exposed", "clicked", "timestamp", "sku_brand", "sku_price", "sku_tags", "user_age")
    kinds = (
        pa.string(), pa.string(), pa.list_(CANDIDATE), pa.int32(), pa.int8(), pa.timestamp("ms", tz="UTC"), pa.string(), pa.float64(),
        pa.list_(pa.string()), pa.float64(),
    )  # fmt: skip
    columns = [list(c) for c in zip(*[(str(i), *r, float(i)) for i, r in enumerate(rows)], strict=True)]
    pq.write_table(pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names=list(names)), path, row_group_size=2)
    return str(path)


def shown(*ids):
    return [{"creative_id": i} for i in ids]


@pytest.fixture
def table(tmp_path):
    source = log(
        tmp_path / "log.parquet",
        [
            ("a", shown("a1", "a2"), 0, 1, 5, "old", 1.0, ["x"]),
            ("a", shown("a1", "a2"), 1, 0, 9, "new", 2.0, ["y", "z"]),
            ("b", shown("b1"), 0, 0, 1, "own", 3.0, []),
            ("a", shown("a1", "a2"), 0, 0, 7, "mid", 4.0, None),
            ("c", [{"creative_id": "c1", "impressions": 40, "clicks": 4}, {"creative_id": "c2", "impressions": 20, "clicks": 1}],
             None, None, None, None, None, None),
        ],
    )  # fmt: skip
    return build_sku_table(source, tmp_path / "skus", CONFIG)


def ids(*names):
    return hash_strings(list(names))


def test_counts_of_exposures_and_of_aggregated_lists(table):
    g = 6 / 64
    assert table.global_ctr == pytest.approx(g)
    expected = [(1 + 10 * g) / 13, 10 * g / 11, (5 + 10 * g) / 70, g]
    assert table.historical_ctr(ids("a", "b", "c", "unknown")) == pytest.approx(expected, rel=1e-6)
    assert [x.tolist() for x in table.creative_counts(ids("a1", "a2", "c1", "b1", "none"))] == [[2, 1, 40, 1, 0], [1, 0, 4, 0, 0]]


def test_training_rows_see_earlier_blocks_only(tmp_path):
    # Sixteen blocks of 100 ms; the click at 150 is known from the third block on, the row at 1599 to nobody.
    rows = [("a", shown("a1"), 0, y, t, "x", 1.0, []) for t, y in ((0, 0), (150, 1), (160, 0), (820, 0), (1599, 1))]
    table = build_sku_table(log(tmp_path / "timed.parquet", rows), tmp_path / "timed", CONFIG)
    assert table.edges.tolist() == list(range(100, 1600, 100))
    g = 2 / 5
    found = table.past_ctr(np.repeat(ids("a"), 4), np.array([0, 1, 2, 15]))
    assert found == pytest.approx([g, (0 + 10 * g) / 11, (1 + 10 * g) / 13, (1 + 10 * g) / 14], rel=1e-6)


def test_halves_of_a_log_without_times_see_each_other(table):
    # All rows but one lie within 16 ms, too short for blocks of time.
    assert table.edges.size == 0
    halves = ids(*"01234") & 1
    g, clicks = 6 / 64, np.array([1, 0, 0, 0, 5])
    rows_of_a = np.array([0, 1, 3])
    for half in (0, 1):
        other = rows_of_a[halves[rows_of_a] != half]
        expected = (clicks[other].sum() + 10 * g) / (other.size + 10)
        assert table.past_ctr(ids("a"), np.array([half])) == pytest.approx([expected], rel=1e-6)
    assert 0 < halves[rows_of_a].sum() < 3, "both halves must hold rows of the SKU for the test to tell anything"


def test_a_rows_label_never_changes_what_its_block_sees(tmp_path):
    def past(label):
        rows = [("a", shown("a1"), 0, 0 if t != 800 else label, t, "x", 1.0, []) for t in range(0, 1700, 100)]
        return build_sku_table(log(tmp_path / f"{label}.parquet", rows), tmp_path / str(label), CONFIG)

    difference = past(1).past_clicks - past(0).past_clicks
    own = int(np.searchsorted(past(0).edges, 800, side="right"))
    assert difference[0].tolist() == [0.0] * (own + 1) + [1.0] * (15 - own)


def test_last_seen_features_are_those_of_the_latest_time(table):
    values = table.values(ids("a", "b", "unknown"))
    assert values.ids["sku_id"].tolist() == ids("a", "b", "unknown").tolist()
    assert values.ids["sku_brand"].tolist() == [*ids("new", "own"), 0]
    assert values.numbers["sku_price"].tolist()[:2] == [2.0, 3.0] and values.numbers["sku_price"][2].isnan()
    assert values.bags["sku_tags"].offsets.tolist() == [0, 2, 2, 2]
    assert values.bags["sku_tags"].values.tolist() == ids("y", "z").tolist()


def test_names_and_boundaries_are_kept(table):
    assert [table.names.text(i) for i in range(3)] == sorted("abc", key=lambda n: ids(n)[0])
    # Ages 0..4 in three buckets: cuts at the values a third and two thirds up.
    assert table.boundaries["user_age"].tolist() == [1.0, 2.0]


def test_pickles_as_its_folder(table):
    again = pickle.loads(pickle.dumps(table))
    assert np.array_equal(again.clicks, table.clicks) and again.boundaries.keys() == table.boundaries.keys()


def test_a_sku_field_that_is_no_column_is_named(tmp_path, market):
    config = RankerModelConfig.model_validate({"light": {"sku": ["sku_shop"], "creative": {}}})
    with pytest.raises(DataError, match="'sku_shop'"):
        build_sku_table(str(market.impressions), tmp_path / "skus", config)


# ---- accumulators: consolidating in between changes nothing ------------------------------------------------------------


@pytest.mark.parametrize("pending", [1, 50, 10**9])
def test_streamed_sums_and_last_rows_equal_those_of_the_whole(monkeypatch, pending):
    monkeypatch.setattr(accumulate, "_PENDING_ROWS", pending)
    random = np.random.default_rng(0)
    keys, times = random.integers(0, 30, 500), random.integers(0, 100, 500)
    n, k, value = random.random(500), random.random(500), random.random(500)
    lengths = random.integers(0, 4, 500)
    lists = RaggedArray(random.integers(0, 1000, lengths.sum()), np.append(0, lengths.cumsum()))
    counts, last = Counts(), LastSeen()
    for start in range(0, 500, 37):
        rows = np.arange(start, min(start + 37, 500))
        counts.add(keys[rows], n[rows], k[rows])
        last.add(keys[rows], times[rows], {"value": value[rows], "lists": lists.take(rows)})
    found, sums_n, sums_k = counts.result()
    assert found.tolist() == np.unique(keys).tolist()
    assert sums_n == pytest.approx([n[keys == key].sum() for key in found])
    assert sums_k == pytest.approx([k[keys == key].sum() for key in found])
    # Of equal times the row read last wins.
    latest = [max(np.flatnonzero(keys == key), key=lambda i: (times[i], i)) for key in found]
    columns = last.result()
    assert columns["value"].tolist() == value[latest].tolist()
    assert columns["lists"].values.tolist() == lists.take(np.array(latest)).values.tolist()


def test_a_sample_is_bounded_and_even():
    sample = Sample(limit=2000)
    for start in range(0, 100_000, 1000):
        sample.add(np.append(np.arange(start, start + 1000, dtype=np.float64), np.nan))
    assert 800 < sample.values.size <= 2000
    assert sample.values.mean() == pytest.approx(50_000, rel=0.06)
    assert not np.isnan(sample.values).any()
