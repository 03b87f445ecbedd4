"""Writing Parquet in row groups of a chosen size, whatever the sizes of the tables that come in."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

_MAX_GROUP_BYTES = 64 * 2**20


class RowGroupWriter:
    """Writes one file; nothing is written, not even an empty file, when no row comes.

    Row groups have exactly `rows` rows, but the last of the file, and those that would pass 64 MiB (pictures): reading one
    row group then never needs much memory.

    Args:
        path: The file; its folder is made.
        schema: Of every table.
        rows: Rows of a row group.

    Attributes:
        written: Rows given so far.
    """

    def __init__(self, path: Path, schema: pa.Schema, rows: int) -> None:
        self._path = path
        self._schema = schema
        self._rows = rows
        self._waiting: list[pa.Table] = []
        self._have = 0
        self._bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self.written = 0

    def __enter__(self) -> RowGroupWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._have:
            self._flush(self._have)
        if self._writer is not None:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._have += table.num_rows
        self._bytes += table.nbytes
        self.written += table.num_rows
        while self._have >= self._rows:
            self._flush(self._rows)
        if self._bytes >= _MAX_GROUP_BYTES:
            self._flush(self._have)

    def _flush(self, rows: int) -> None:
        joined = pa.concat_tables(self._waiting)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, self._schema)
        self._writer.write_table(joined.slice(0, rows), row_group_size=max(rows, 1))
        rest = joined.slice(rows)
        self._waiting = [rest] if rest.num_rows else []
        self._have = rest.num_rows
        self._bytes = rest.nbytes if rest.num_rows else 0
