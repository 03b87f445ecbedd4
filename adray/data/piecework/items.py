"""Work items: pieces of a source that are read, worked on and written on their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from adray.data.conform import conform, target_schema
from adray.data.parquet import GroupReader, ParquetTable, RowGroup
from adray.data.schema import TableSchema
from adray.data.sources import OnBad, Source, read_part
from adray.data.validate import with_whole_paths

_MOST_PER_GROUP = 8
"""Items of one row group at most. Each reads the group from its start, so their number bounds what is read in vain."""


@dataclass(frozen=True)
class Item:
    """A piece of a source.

    Attributes:
        name: Hex digest of what it is cut from (files, their sizes and times, the rows); names its output.
        part: Number of the source's part.
        group: Its row group; None takes the whole part.
        start: First row within the group.
        rows: Rows; 0 where that is not known before reading.
    """

    name: str
    part: int
    group: RowGroup | None = None
    start: int = 0
    rows: int = 0


def make_items(source: Source, chunk_rows: int, batch_rows: int) -> list[Item]:
    """Cut a source; the pieces depend on the source and the two sizes alone, so that a resumed run finds the same ones.

    Args:
        source: The table.
        chunk_rows: Rows of a piece, about.
        batch_rows: Pieces begin at multiples of it, so that batches are the same however a row group is cut.
    """
    stamps = {path: (path, size, time) for path, size, time in source.stamp}
    items = []
    for number, part in enumerate(source.parts):
        files = [stamps[file] for file in part.files]
        if not part.groups:
            items.append(Item(_name(files, batch_rows), number))
        for group in part.groups:
            step = max(chunk_rows, -(-group.rows // _MOST_PER_GROUP))
            step = -(-step // batch_rows) * batch_rows
            for start in range(0, group.rows, step):
                rows = min(step, group.rows - start)
                items.append(Item(_name([stamps[group.file], group.index, start, rows], batch_rows), number, group, start, rows))
    return items


def _name(identity: Sequence[object], batch_rows: int) -> str:
    return hashlib.sha256(json.dumps([identity, batch_rows]).encode()).hexdigest()[:20]


def read_item(source: Source, item: Item, batch_rows: int, table: TableSchema, columns: Sequence[str], on_bad: OnBad) -> Iterator[pa.Table]:
    """Rows of an item with their declared types, in tables of exactly `batch_rows` (the last one less).

    Args:
        source: The table.
        item: Which part of it.
        batch_rows: Rows of a batch.
        table: What the table is declared to hold.
        columns: Those to read, where the source has them.
        on_bad: Told the key and the reason of what is not even a row.

    Raises:
        DataError: If a file cannot be read, or a column has an impossible type.
    """
    names = [name for name in columns if name in source.schema.names]
    target = target_schema(pa.schema([source.schema.field(name) for name in names]), table, source.path)
    for batch in _exactly(_pieces(source, item, batch_rows, names, on_bad), batch_rows):
        conformed = conform(batch.select(names), target)
        rows = with_whole_paths(conformed.table, source.folder)
        bad = {row: reason for row, _, reason in conformed.problems}
        keys = rows.column(table.key).to_pylist()
        for row, reason in bad.items():
            on_bad(keys[row] or f"{item.name} row {row}", reason)
        yield rows.filter(pa.array([row not in bad for row in range(rows.num_rows)])) if bad else rows


def _pieces(source: Source, item: Item, rows: int, names: list[str], on_bad: OnBad) -> Iterator[pa.Table]:
    if item.group is None:
        yield from read_part(source, source.parts[item.part], on_bad)
        return
    reader = GroupReader(ParquetTable(source.path, source.filesystem, source.schema, (item.group,)), names)
    try:
        at, end = 0, item.start + item.rows
        for table in reader.iterate(item.group, rows):
            first, last = max(item.start - at, 0), min(end - at, table.num_rows)
            if first < last:
                yield table.slice(first, last - first)
            at += table.num_rows
            if at >= end:
                return
    finally:
        reader.close()


def _exactly(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    have = 0
    for table in tables:
        waiting.append(table)
        have += table.num_rows
        while have >= rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, rows).combine_chunks()
            waiting, have = [joined.slice(rows)], have - rows
    if have:
        yield pa.concat_tables(waiting).combine_chunks()
