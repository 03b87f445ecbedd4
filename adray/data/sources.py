"""Sources of rows: Parquet, CSV, folders of pictures and WebDataset tars, each cut into parts that are read on their own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import pyarrow as pa
from pyarrow import csv, fs

from adray.data.parquet import GroupReader, ParquetTable, RowGroup, open_parquet
from adray.data.schema import CREATIVES
from adray.data.storage import find_files, is_folder
from adray.data.webdataset import TAR_SCHEMA, read_tar
from adray.errors import DataError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
READ_ROWS = 2048
"""Rows held at a time while a part is read."""

_PART_ROWS = 65536
_PART_PICTURES = 256
_CSV_BLOCK_BYTES = 4 * 2**20
_CSV_TYPES = {"string": pa.string(), "integer": pa.int64(), "float": pa.float64()}

OnBad = Callable[[str, str], None]
"""Told the key and the reason of a piece that is not even a row."""


@dataclass(frozen=True)
class Part:
    """A piece of a source that one task reads: some row groups of a file, some pictures, or a whole CSV or tar."""

    files: tuple[str, ...]
    groups: tuple[RowGroup, ...] = ()


@dataclass(frozen=True)
class Source:
    """A source of rows.

    Attributes:
        path: What the user called it.
        kind: Its format.
        filesystem: Where its files are.
        schema: Its columns.
        parts: In file order.
        size: Bytes of all files.
        stamp: (path, bytes, modification time in ns) of every file.
    """

    path: str
    kind: Literal["parquet", "csv", "pictures", "tar"]
    filesystem: fs.FileSystem
    schema: pa.Schema
    parts: tuple[Part, ...]
    size: int
    stamp: tuple[tuple[str, int, int], ...]

    @property
    def folder(self) -> str:
        """The folder of the source's first file, in the user's scheme: what relative paths in it are relative to."""
        scheme, sign, _ = self.path.partition("://")
        return (scheme + sign if sign else "") + self.stamp[0][0].rpartition("/")[0]


def open_source(path: str, types: Mapping[str, str] | None = None) -> Source:
    """Find out what a path holds.

    Args:
        path: A file, folder, glob or URI. A folder is Parquet, CSV, tars or pictures, whichever is found first in this order.
        types: Types of CSV columns that the beginning of the file does not show rightly.

    Raises:
        DataError: If nothing readable is there.
    """
    kind, filesystem, files = _find(path)
    infos = filesystem.get_file_info(files)
    stamp = tuple((info.path, info.size, info.mtime_ns or 0) for info in infos)
    size = sum(bytes_ for _, bytes_, _ in stamp)
    if kind == "parquet":
        table = open_parquet(path)
        return Source(path, "parquet", filesystem, table.schema, tuple(_parquet_parts(table)), size, stamp)
    if kind == "pictures":
        chunks = [tuple(files[i : i + _PART_PICTURES]) for i in range(0, len(files), _PART_PICTURES)]
        return Source(path, "pictures", filesystem, _picture_schema(), tuple(Part(c) for c in chunks), size, stamp)
    parts = tuple(Part((file,)) for file in files)
    if kind == "tar":
        return Source(path, "tar", filesystem, TAR_SCHEMA, parts, size, stamp)
    return Source(path, "csv", filesystem, _csv_schema(filesystem, files[0], types or {}), parts, size, stamp)


def _find(path: str) -> tuple[Literal["parquet", "csv", "pictures", "tar"], fs.FileSystem, list[str]]:
    kinds: tuple[tuple[Literal["parquet", "csv", "pictures", "tar"], tuple[str, ...]], ...] = (
        ("parquet", (".parquet",)),
        ("csv", (".csv",)),
        ("tar", (".tar",)),
        ("pictures", PICTURE_SUFFIXES),
    )
    every = tuple(suffix for _, suffixes in kinds for suffix in suffixes)
    filesystem, found = find_files(path, every)
    for kind, suffixes in kinds:
        files = [file for file in found if file.lower().endswith(suffixes)]
        if files:
            return kind, filesystem, files
    raise DataError(f"{path} is no {', '.join(every)} file", "convert it, or give the folder that holds such files")


def read_part(source: Source, part: Part, on_bad: OnBad) -> Iterator[pa.Table]:
    """Rows of one part, a few thousand at a time.

    Args:
        source: The source.
        part: One of its parts.
        on_bad: Told of malformed CSV lines, unreadable pictures and broken tar samples.

    Raises:
        DataError: If a file cannot be read at all.
    """
    if source.kind == "parquet":
        yield from _read_parquet(source, part)
    elif source.kind == "csv":
        yield from _read_csv(source, part.files[0], on_bad)
    elif source.kind == "tar":
        with source.filesystem.open_input_stream(part.files[0]) as stream:
            yield from read_tar(stream, part.files[0], on_bad)
    else:
        yield from _read_pictures(source, part, on_bad)


def _parquet_parts(table: ParquetTable) -> Iterator[Part]:
    for file, in_file in groupby(table.groups, key=lambda group: group.file):
        waiting: list[RowGroup] = []
        for group in in_file:
            waiting.append(group)
            if sum(g.rows for g in waiting) >= _PART_ROWS:
                yield Part((file,), tuple(waiting))
                waiting = []
        if waiting:
            yield Part((file,), tuple(waiting))


def _read_parquet(source: Source, part: Part) -> Iterator[pa.Table]:
    reader = GroupReader(ParquetTable(source.path, source.filesystem, source.schema, part.groups))
    try:
        for group in part.groups:
            yield from reader.iterate(group, READ_ROWS)
    finally:
        reader.close()


def _csv_reader(filesystem: fs.FileSystem, file: str, types: Mapping[str, pa.DataType], on_bad: OnBad) -> csv.CSVStreamingReader:
    def skip(row: csv.InvalidRow) -> str:
        on_bad(f"{file} line {row.number}", f"{row.actual_columns} columns instead of {row.expected_columns}")
        return "skip"

    return csv.open_csv(
        filesystem.open_input_stream(file),
        read_options=csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=csv.ParseOptions(invalid_row_handler=skip, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict(types), strings_can_be_null=True, quoted_strings_can_be_null=False),
    )


def _csv_schema(filesystem: fs.FileSystem, file: str, types: Mapping[str, str]) -> pa.Schema:
    try:
        with _csv_reader(filesystem, file, {name: _CSV_TYPES[kind] for name, kind in types.items()}, lambda key, reason: None) as reader:
            fields = reader.schema
    except pa.ArrowException as error:
        raise DataError(f"{file} is not a readable CSV file: {error}", "save it as UTF-8 with one header line") from None
    # A column that is empty at first may hold anything later.
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in fields])


def _read_csv(source: Source, file: str, on_bad: OnBad) -> Iterator[pa.Table]:
    try:
        with _csv_reader(source.filesystem, file, {f.name: f.type for f in source.schema}, on_bad) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                for start in range(0, table.num_rows, READ_ROWS):
                    yield table.slice(start, READ_ROWS)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: {error}", "name the column's type in data.types, e.g. {column: string}") from None


def _picture_schema() -> pa.Schema:
    return pa.schema([*CREATIVES.required, CREATIVES.optional.field("image")])


def _read_pictures(source: Source, part: Part, on_bad: OnBad) -> Iterator[pa.Table]:
    root = source.path if is_folder(source.path) else ""
    inner_root = root.split("://", 1)[-1].rstrip("/")
    rows = []
    for file in part.files:
        below = file[len(inner_root) :].lstrip("/") if inner_root and file.startswith(inner_root) else file.rsplit("/", 1)[-1]
        creative_id = below.rsplit(".", 1)[0]
        # `<sku>/<picture>.jpg`; a picture in no folder of its own is its own SKU.
        sku_id = below.rsplit("/", 1)[0] if "/" in below else creative_id
        try:
            with source.filesystem.open_input_stream(file) as stream:
                content = io.BytesIO(stream.read()).getvalue()
        except OSError as error:
            on_bad(creative_id, f"the file cannot be read: {error}")
            continue
        rows.append({"creative_id": creative_id, "sku_id": sku_id, "image": {"bytes": content, "path": None}})
        if len(rows) == 64:
            yield pa.Table.from_pylist(rows, schema=source.schema)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, schema=source.schema)
