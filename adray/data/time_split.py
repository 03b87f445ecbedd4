"""Splitting impressions by time: the latest are held out, and one moment is never on both sides."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adray.data.row_group_writer import RowGroupWriter
from adray.errors import DataError

_BINS = 1 << 16
_TIME = "timestamp"


@dataclass(frozen=True)
class TimeSplit:
    """Rows on each side, and the time of the last training row (ISO 8601) where rows have times."""

    train_rows: int
    holdout_rows: int
    train_until: str | None


def split_by_time(train: Path, holdout: Path, share: float, row_group_rows: int) -> TimeSplit:
    """Move the latest rows of `train` to `holdout`.

    Held out are the latest whole moments that together hold at most `share` of the rows; if even the last moment holds
    more, that moment alone.

    Args:
        train: Folder of Parquet parts.
        holdout: Folder to make; parts keep their names.
        share: Share of rows to hold out; 0 moves nothing.
        row_group_rows: Rows of each row group written.

    Raises:
        DataError: If all rows are of one moment.
    """
    parts = sorted(train.glob("*.parquet"))
    rows = sum(pq.read_metadata(part).num_rows for part in parts)
    timed = _TIME in pq.read_schema(parts[0]).names
    if share == 0:
        return TimeSplit(rows, 0, _iso(_span(parts)[1]) if timed else None)
    cut = find_cut(parts, rows, share)
    kept = 0
    until = None
    for part in parts:
        low, high = _span([part])
        if low is not None and low >= cut:
            holdout.mkdir(exist_ok=True)
            part.rename(holdout / part.name)
            continue
        if high is not None and high >= cut:
            _split_part(part, holdout / part.name, cut, row_group_rows)
            high = _span([part])[1]
        kept += pq.read_metadata(part).num_rows
        until = high if until is None else max(until, high or until)
    return TimeSplit(kept, rows - kept, _iso(until))


def find_cut(parts: list[Path], rows: int, share: float) -> int:
    """The first held-out millisecond: exact, by counting within ever finer bins, so that times need not fit in memory.

    Raises:
        DataError: If all rows are of one moment.
    """
    low, last = _span(parts)
    if low is None or last is None or low == last:
        raise DataError(
            "data.holdout splits by time, but all rows have the same timestamp", "set data.holdout to 0 or give a timestamp column"
        )
    first, high, after = low, last, 0
    wanted = share * rows
    # Invariant: `after` rows lie beyond `high`, fit in the share, and adding all from `low` on would not.
    while low < high:
        width = max(1, -(-(high - low + 1) // _BINS))
        counts = np.zeros(_BINS, np.int64)
        for times in _times(parts):
            inside = times[(times >= low) & (times <= high)]
            counts += np.bincount((inside - low) // width, minlength=_BINS)[:_BINS]
        from_bin = after + np.cumsum(counts[::-1])[::-1]
        # The earliest bin whose rows and all later ones still fit.
        fits = np.flatnonzero(from_bin <= wanted)
        start = int(fits[0]) if len(fits) else _BINS
        after = int(from_bin[start]) if start < _BINS else after
        # The bin before holds the moment that no longer fits.
        low, high = low + (start - 1) * width, min(high, low + start * width - 1)
    # `high` is the last moment that does not fit, unless nothing after it exists.
    cut = high + 1
    return max(first + 1, cut if cut <= last else last)


def _split_part(part: Path, holdout: Path, cut: int, row_group_rows: int) -> None:
    file = pq.ParquetFile(part)
    early = part.with_suffix(".early")
    with (
        RowGroupWriter(early, file.schema_arrow, row_group_rows) as before,
        RowGroupWriter(holdout, file.schema_arrow, row_group_rows) as after,
    ):
        for batch in file.iter_batches(batch_size=row_group_rows):
            table = pa.Table.from_batches([batch])
            late = pc.greater_equal(table.column(_TIME).cast(pa.int64()), cut)
            before.write(table.filter(pc.invert(late)))
            after.write(table.filter(late))
    early.replace(part)


def _times(parts: list[Path]) -> Iterator[np.ndarray]:
    for part in parts:
        for batch in pq.ParquetFile(part).iter_batches(batch_size=1 << 20, columns=[_TIME]):
            yield batch.column(0).drop_null().cast(pa.int64()).to_numpy()


def _span(parts: list[Path]) -> tuple[int | None, int | None]:
    spans = [(int(times.min()), int(times.max())) for times in _times(parts) if len(times)]
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else (None, None)


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc).isoformat()
