"""Which of the log's counts a training row may see: only what was known before it, never its own label.

A row's own click hides in any statistic that includes it, and leaving just that row out hides it no better: with the
SKU known, the two values that the remainder can take tell the label apart. So the log is cut into blocks of time, and a
row sees the counts of earlier blocks, which is also what serving had at that moment. A log without times is cut in two
by the hash of its request ids, and each half sees the other.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.data.hashing import hash_strings
from adray.errors import DataError

TIME_BLOCKS = 16


def block_edges(first: int | None, last: int | None) -> np.ndarray:
    """Starts of every block but the first, int64 milliseconds `[TIME_BLOCKS - 1]`; empty when there is no span of time.

    Args:
        first: Earliest time of the log; None when it has no times.
        last: Latest time.
    """
    if first is None or last is None or last - first < TIME_BLOCKS:
        return np.zeros(0, np.int64)
    return np.linspace(first, last + 1, TIME_BLOCKS + 1).astype(np.int64)[1:-1]


def number_of_blocks(edges: np.ndarray) -> int:
    """How many blocks there are: of time, or the two halves of a log without times."""
    return edges.size + 1 if edges.size else 2


def times_of(rows: pa.Table | pa.RecordBatch) -> pa.Array | None:
    """The timestamps as int64 milliseconds; None when the rows have no such column or nothing in it."""
    if "timestamp" not in rows.schema.names:
        return None
    column = rows.column("timestamp")
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count == len(array):
        return None
    return array.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64())


def row_blocks(rows: pa.Table | pa.RecordBatch, edges: np.ndarray) -> np.ndarray:
    """The block of each row, int64 `[n]`.

    Args:
        rows: Impressions with `timestamp`, or with `request_id` when `edges` is empty. A row without a time is put into
            the first block, which sees nothing.
        edges: From `block_edges`.

    Raises:
        DataError: If the column that decides is missing.
    """
    if edges.size:
        times = times_of(rows)
        if times is None:
            return np.zeros(rows.num_rows, np.int64)
        return np.searchsorted(edges, pc.fill_null(times, int(np.iinfo(np.int64).min)).to_numpy(), side="right")
    if "request_id" not in rows.schema.names:
        raise DataError("column 'request_id' is missing from impressions without times", "read it with the other columns")
    column = rows.column("request_id")
    return hash_strings(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column) & 1


def visible(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """What each block may see of a count, `[S, blocks]`, from the count within each block, `[S, blocks]`."""
    if edges.size:
        return np.cumsum(counts, axis=1) - counts
    return counts[:, ::-1]
