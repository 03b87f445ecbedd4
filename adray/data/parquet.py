"""Parquet tables as a list of row groups, the unit in which everything is read."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from adray.data.storage import find_files
from adray.errors import DataError

_FOOTER_THREADS = 8


@dataclass(frozen=True)
class RowGroup:
    """One row group: the file's path within the table's file system, its index there, and its rows."""

    file: str
    index: int
    rows: int


@dataclass(frozen=True)
class ParquetTable:
    """A table's row groups in file order.

    Attributes:
        path: What the user called it.
        filesystem: Where its files are.
        schema: The columns of all files, each in a type that holds every file's values.
        groups: Row groups with at least one row, files sorted by path.
    """

    path: str
    filesystem: fs.FileSystem
    schema: pa.Schema
    groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(group.rows for group in self.groups)


def open_parquet(path: str) -> ParquetTable:
    """Read the footers of a Parquet file, folder, glob or URI.

    Raises:
        DataError: If nothing is there or a footer cannot be read.
    """
    filesystem, files = find_files(path, (".parquet",))

    def footer(file: str) -> tuple[pa.Schema, list[RowGroup]]:
        try:
            with filesystem.open_input_file(file) as stream:
                parquet = pq.ParquetFile(stream)
                counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
                return parquet.schema_arrow, [RowGroup(file, i, rows) for i, rows in enumerate(counts) if rows]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} is not a readable Parquet file: {error}", "write it again or take it out of the folder") from None

    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        footers = list(pool.map(footer, files))
    return ParquetTable(
        path, filesystem, _one_schema(path, [schema for schema, _ in footers]), tuple(group for _, groups in footers for group in groups)
    )


def _one_schema(path: str, schemas: list[pa.Schema]) -> pa.Schema:
    try:
        return pa.unify_schemas([schema.remove_metadata() for schema in schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"files of {path} disagree on their columns: {error}", "write them with one schema") from None


def check_columns(table: ParquetTable, columns: Sequence[str] | None) -> None:
    """Refuse columns that the table lacks.

    Raises:
        DataError: Naming the column and the nearest one.
    """
    for column in columns or ():
        if column not in table.schema.names:
            raise DataError(f"{table.path} has no column {column!r}", nearest(column, table.schema.names))


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint: the nearest of the names, or all of them."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none'}"


class GroupReader:
    """Reads row groups, keeping the last few files open so that a footer is not parsed for each group."""

    def __init__(self, table: ParquetTable, columns: Sequence[str] | None = None, open_files: int = 16) -> None:
        self._table = table
        self._columns = list(columns) if columns is not None else None
        self._open: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._limit = open_files

    def read(self, group: RowGroup) -> pa.Table:
        """All rows of one group, in one chunk per column.

        Raises:
            DataError: If the file has gone, is damaged or lacks a column.
        """
        try:
            return self._file(group.file).read_row_group(group.index, columns=self._columns, use_threads=False)
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"row group {group.index} of {group.file} cannot be read: {error}", "write the table again") from None

    def iterate(self, group: RowGroup, rows: int) -> Iterator[pa.Table]:
        """One group in pieces of at most `rows` rows, so that a huge group need not fit in memory.

        Raises:
            DataError: As `read`.
        """
        try:
            file = self._file(group.file)
            for batch in file.iter_batches(batch_size=rows, row_groups=[group.index], columns=self._columns, use_threads=False):
                yield pa.Table.from_batches([batch])
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"row group {group.index} of {group.file} cannot be read: {error}", "write the table again") from None

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close(force=True)
        self._open.clear()

    def _file(self, name: str) -> pq.ParquetFile:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        while len(self._open) >= self._limit:
            self._open.popitem(last=False)[1].close(force=True)
        stream = self._table.filesystem.open_input_file(name)
        self._open[name] = file = pq.ParquetFile(stream, pre_buffer=False)
        return file
