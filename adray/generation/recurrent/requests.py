"""Requests: products that want pictures, read from any table that has them, one per product or one per row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from adray.data.hashing import NULL_HASH, hash_strings
from adray.data.parquet import GroupReader, ParquetTable
from adray.data.piecework.items import make_items, read_item
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import IMAGE, TableSchema
from adray.data.sources import READ_ROWS, Source, open_source
from adray.errors import DataError
from adray.files import write_json

REQUEST = TableSchema(
    "requests",
    key="sku_id",
    required=pa.schema([("sku_id", pa.string())]),
    optional=pa.schema(
        [
            ("annotation_id", pa.string()),
            ("creative_id", pa.string()),
            ("title", pa.string()),
            ("copy", pa.string()),
            ("cutout", IMAGE),
            ("image", IMAGE),
        ]
    ),
)
"""What is read of a table of requests; its other columns are passed over."""

_FOLDER, _RECORD = "requests", "requests.json"
_ROW_GROUP = 256


@dataclass(frozen=True)
class Columns:
    """Which columns say what.

    Attributes:
        id: The request's id.
        picture: The product's picture.
        text: The product's title; None where the table has none.
    """

    id: str
    picture: str
    text: str | None

    def read(self) -> list[str]:
        """All columns to be read, each once."""
        return list(dict.fromkeys(name for name in ("sku_id", self.id, self.text, self.picture) if name is not None))


@dataclass(frozen=True)
class Requests:
    """Requests ready to be cut into items.

    Attributes:
        source: A table with one row per request.
        columns: Its columns.
        rows: Requests.
        repeats: Rows left out because their product has an earlier one.
        lost: (key, reason) of what was no row at all.
    """

    source: Source
    columns: Columns
    rows: int
    repeats: int
    lost: tuple[tuple[str, str], ...] = ()


def request_columns(source: Source, per: Literal["product", "row"]) -> Columns:
    """Find the columns of a table of requests.

    Raises:
        DataError: If it has no product id or no picture.
    """
    names = source.schema.names
    if "sku_id" not in names:
        raise DataError(f"{source.path} has no column 'sku_id'", "give a table of products or annotations")
    picture = next((name for name in ("cutout", "image") if name in names), None)
    if picture is None:
        raise DataError(f"{source.path} has neither column 'cutout' nor 'image'", "give a table with product pictures")
    row_id = next((name for name in ("annotation_id", "creative_id") if name in names), "sku_id")
    text = next((name for name in ("title", "copy") if name in names), None)
    return Columns("sku_id" if per == "product" else row_id, picture, text)


def prepare_requests(path: str, per: Literal["product", "row"], folder: Path) -> Requests:
    """Open a table of requests; where it is not Parquet or a product has several rows, its requests are first written apart.

    Args:
        path: The table.
        per: What one request stands for.
        folder: The run's folder: the requests' table is written there once, and found again when the run is resumed.

    Raises:
        DataError: If the table cannot be used, or a row's id occurs twice.
    """
    source = open_source(path)
    columns = request_columns(source, per)
    if source.kind == "parquet":
        hashes = _hashes(source, columns.id)
        named = hashes[hashes != NULL_HASH]
        repeats = len(named) - len(np.unique(named))
        if not repeats:
            return Requests(source, columns, len(hashes), 0)
        if per == "row":
            raise DataError(f"{columns.id} occurs twice in {path}, {repeats} rows repeat one", "give every row an id of its own")
    return _apart(source, columns, folder)


def _hashes(source: Source, column: str) -> np.ndarray:
    groups = tuple(group for part in source.parts for group in part.groups)
    reader = GroupReader(ParquetTable(source.path, source.filesystem, source.schema, groups), [column])
    try:
        return np.concatenate([np.zeros(0, np.int64), *(hash_strings(reader.read(group).column(0)) for group in groups)])
    finally:
        reader.close()


def _apart(source: Source, columns: Columns, folder: Path) -> Requests:
    """The requests as a table in the run's folder; written anew only when the source has changed, since items are named after it."""
    stamp = json.loads(json.dumps([source.stamp, columns.read()]))
    record = folder / _RECORD
    found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if found.get("source") != stamp:
        rows, repeats, lost = _write(source, columns, folder / _FOLDER / "requests.parquet")
        found = {"source": stamp, "rows": rows, "repeats": repeats, "lost": lost}
        write_json(record, found)
    if not found["rows"]:
        raise DataError(f"{source.path} has no usable request", f"first: {found['lost'][0][1]}" if found["lost"] else "it has no rows")
    return Requests(
        open_source(str(folder / _FOLDER)), columns, found["rows"], found["repeats"], tuple((key, reason) for key, reason in found["lost"])
    )


def _write(source: Source, columns: Columns, path: Path) -> tuple[int, int, list[tuple[str, str]]]:
    lost: list[tuple[str, str]] = []
    repeats = 0
    partial = path.with_name(f".{path.name}.partial")
    schema = pa.schema([field for field in (*REQUEST.required, *REQUEST.optional) if field.name in columns.read()])
    try:
        with RowGroupWriter(partial, schema, _ROW_GROUP) as writer:
            for rows, repeated in _first_rows(source, columns, lost):
                writer.write(rows.select(schema.names))
                repeats += repeated
        if writer.written:
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return writer.written, repeats, lost


def _first_rows(source: Source, columns: Columns, lost: list[tuple[str, str]]) -> Iterator[tuple[pa.Table, int]]:
    """The first row of every id, in tables, and how many rows of each table were repeats. Rows without an id are kept."""
    seen: set[int] = set()

    def is_new(value: int) -> bool:
        if value == NULL_HASH:
            return True
        before = len(seen)
        seen.add(value)
        return len(seen) > before

    for item in make_items(source, READ_ROWS, READ_ROWS):
        for rows in read_item(source, item, READ_ROWS, REQUEST, columns.read(), lambda key, reason: lost.append((key, reason))):
            new = [is_new(value) for value in hash_strings(rows.column(columns.id)).tolist()]
            yield rows.filter(pa.array(new, pa.bool_())), new.count(False)
