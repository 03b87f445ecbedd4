"""`upworthy`: the Upworthy Research Archive, randomised tests of headlines and pictures (CC BY 4.0).

One row of the source is an arm: a headline, picture, lede and excerpt with its impressions and clicks. A test becomes one
aggregated list: request and SKU are the test, candidates its arms in source order. Arms that repeat a (headline, picture)
of their test are kept apart: each is an independent random sample, summing them changes no rate, and every source row
stays accountable. A test that spans weeks is dated by its last one, so that all of a list lies on one side of a split by time.
"""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.data.adapters.grouping import Grouping, Groups, group_rows
from adray.data.adapters.inputs import Inputs, TableInput, need_columns
from adray.data.config import DataConfig
from adray.data.schema import CANDIDATE, CREATIVES, IMPRESSIONS
from adray.data.sources import open_source

_TEST = "clickability_test_id"
_COLUMNS = {
    _TEST: "the test an arm belongs to",
    "headline": "the copy",
    "lede": "the element `lede`",
    "excerpt": "the element `excerpt`",
    "eyecatcher_id": "the picture's id",
    "impressions": "how often the arm was shown",
    "clicks": "how often it was clicked",
    "test_week": "when, as yyyyww",
}


def inputs(config: DataConfig) -> Inputs:
    """Open the arms file.

    Raises:
        DataError: If it is missing or lacks a column.
    """
    source = open_source(config.path, config.types)
    need_columns(source, _COLUMNS)
    spans = [tuple(span) for span in config.drop_weeks]

    def adapt(rows: pa.Table) -> pa.Table:
        rows = rows.select(list(_COLUMNS))
        keep = pa.array(np.ones(rows.num_rows, bool))
        for first, last in spans:
            week = rows.column("test_week")
            keep = pc.and_(keep, pc.invert(pc.and_(pc.greater_equal(week, first), pc.less_equal(week, last))))
        # A null week is kept: the row then reaches the quarantine with its reason.
        return rows.filter(pc.fill_null(keep, True))

    return Inputs(
        impressions=TableInput(IMPRESSIONS, source, adapt, Grouping((_TEST,), _impressions)),
        creatives=TableInput(CREATIVES, source, adapt, Grouping((_TEST,), _creatives)),
    )


def monday(week: int) -> datetime.datetime:
    """Monday 00:00 UTC of a yyyyww week (ISO 8601 weeks)."""
    year, number = divmod(week, 100)
    return datetime.datetime.fromisocalendar(year, number, 1).replace(tzinfo=datetime.timezone.utc)


def _creative_ids(groups: Groups) -> pa.Array:
    arms = pa.array(groups.within()).cast(pa.string())
    return pc.binary_join_element_wise(groups.rows.column(_TEST).cast(pa.string()), arms, "-")


def _impressions(arms: pa.Table) -> pa.Table:
    groups = group_rows(arms, (_TEST,))
    columns = {
        "creative_id": _creative_ids(groups),
        "propensity": pa.nulls(arms.num_rows, pa.float32()),
        "impressions": groups.rows.column("impressions").cast(pa.int64()),
        "clicks": groups.rows.column("clicks").cast(pa.int64()),
    }
    items = pa.StructArray.from_arrays([_flat(columns[f.name]).cast(f.type) for f in CANDIDATE], fields=list(CANDIDATE))
    tests = groups.rows.column(_TEST).cast(pa.string()).take(groups.first)
    return pa.table({"request_id": tests, "sku_id": tests, "candidates": groups.lists(items), "timestamp": _times(groups)})


def _times(groups: Groups) -> pa.Array:
    weeks = groups.lists(_flat(groups.rows.column("test_week")).cast(pa.int64()))
    times = []
    for test_weeks in weeks.to_pylist():
        known = [week for week in test_weeks if week is not None]
        try:
            times.append(monday(max(known)) if known else None)
        except ValueError:
            times.append(None)
    return pa.array(times, pa.timestamp("ms", tz="UTC"))


def _creatives(arms: pa.Table) -> pa.Table:
    groups = group_rows(arms, (_TEST,))
    rows = groups.rows
    slots = {"lede": rows.column("lede"), "excerpt": rows.column("excerpt"), "eyecatcher": rows.column("eyecatcher_id")}
    texts = {slot: column.cast(pa.string()).to_pylist() for slot, column in slots.items()}
    elements = [[(slot, texts[slot][i]) for slot in slots if texts[slot][i] is not None] for i in range(rows.num_rows)]
    return pa.table(
        {
            "creative_id": _creative_ids(groups),
            "sku_id": rows.column(_TEST).cast(pa.string()),
            "copy": rows.column("headline").cast(pa.string()),
            "elements": pa.array(elements, pa.map_(pa.string(), pa.string())),
            "source": pa.array(["designer"] * rows.num_rows, pa.string()),
        }
    )


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
