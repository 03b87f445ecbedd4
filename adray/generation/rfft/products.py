"""The run's own tables of products: every row looked at once, what cannot be used quarantined with its reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from adray.data.bad_rows import BadRowsError
from adray.data.piecework.items import make_items, read_item
from adray.data.quarantine import FOLDER, Lost, check_limit, ensure_readable, quarantine_rows
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import IMAGE, QUARANTINE, TableSchema
from adray.data.sources import Source, open_source
from adray.errors import DataError
from adray.files import replacing_folder, write_json
from adray.generation.placement import PlacementConfig
from adray.generation.rfft.config import RequestDataConfig
from adray.generation.rfft.source import ProductCollate, request_columns

_RECORD = "products.json"
_READ_ROWS, _GROUP_ROWS = 64, 256
_PRODUCTS = TableSchema(
    "products",
    key="sku_id",
    required=pa.schema([("sku_id", pa.string())]),
    optional=pa.schema([("annotation_id", pa.string()), ("cutout", IMAGE), ("copy", pa.string()), ("title", pa.string())]),
)


@dataclass(frozen=True)
class ProductTables:
    """A run's products.

    Attributes:
        train: Folder of the training products.
        holdout: Folder of the others.
        quarantine: Folder of what could not be used.
        rows: Rows of both, by name.
        quarantined: Rows in the quarantine.
        fingerprint: Hex digest of sources and placement; equal input, equal tables.
    """

    train: str
    holdout: str
    quarantine: str
    rows: dict[str, int]
    quarantined: int
    fingerprint: str


def prepare_products(config: RequestDataConfig, placement: PlacementConfig, folder: Path) -> ProductTables:
    """Make a run's tables; when `folder` holds those of these sources already, they are used again.

    Args:
        config: The sources.
        placement: Decides which cut-outs can be placed.
        folder: Where the tables go.

    Raises:
        DataError: If a source cannot be read, lacks a column, or has more unusable rows than allowed.
    """
    folder = folder.absolute()
    sources = {name: open_source(config.table(name)) for name in ("train", "holdout")}
    stamps = [[name, source.stamp] for name, source in sources.items()]
    mark = hashlib.sha256(json.dumps([stamps, placement.model_dump(mode="json")]).encode()).hexdigest()
    if (folder / _RECORD).is_file():
        known = ProductTables(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
        if known.fingerprint == mark:
            return known
    rows, lost = {}, []
    with replacing_folder(folder) as partial:
        for name, source in sources.items():
            own: list[tuple[str, str]] = []
            rows[name] = _write(source, placement, partial / name / "part-0.parquet", own)
            check_limit(
                _lost(rows[name], own),
                config.quarantine_limit,
                _quarantine(partial, name, own),
                folder.with_name(f"{folder.name}.{FOLDER}"),
            )
            if not rows[name]:
                raise DataError(f"{source.path} has no usable product", f"first: {own[0][1]}" if own else "it has no rows")
            lost += own
        ensure_readable(partial / FOLDER)
        tables = ProductTables(str(folder / "train"), str(folder / "holdout"), str(folder / FOLDER), rows, len(lost), mark)
        write_json(partial / _RECORD, asdict(tables))
    return tables


def _lost(kept: int, lost: list[tuple[str, str]]) -> Lost:
    return Lost(_PRODUCTS.name, kept, len(lost), ": ".join(lost[0]) if lost else "")


def _quarantine(folder: Path, name: str, lost: list[tuple[str, str]]) -> Path:
    with RowGroupWriter(folder / FOLDER / f"{name}.parquet", QUARANTINE.required, 1 << 16) as writer:
        writer.write(quarantine_rows(_PRODUCTS.name, name, lost))
    return folder / FOLDER


def _write(source: Source, placement: PlacementConfig, path: Path, lost: list[tuple[str, str]]) -> int:
    """Rows kept."""
    columns = request_columns(source.schema.names, source.path)
    collate = ProductCollate(placement, columns)
    schema = pa.schema([field for field in (*_PRODUCTS.required, *_PRODUCTS.optional) if field.name in columns])
    with RowGroupWriter(path, schema, _GROUP_ROWS) as writer:
        for rows in _rows(source, columns, lost):
            bad: dict[int, str] = {}
            try:
                collate(rows)
            except BadRowsError as error:
                bad = dict(error.rows)
            keys = rows.column("sku_id").to_pylist()
            lost += [(keys[row] or f"row {row}", reason) for row, reason in sorted(bad.items())]
            writer.write(rows.filter(pa.array([row not in bad for row in range(rows.num_rows)])).select(schema.names).cast(schema))
    return writer.written


def _rows(source: Source, columns: tuple[str, ...], lost: list[tuple[str, str]]) -> Iterator[pa.Table]:
    for item in make_items(source, 16 * _READ_ROWS, _READ_ROWS):
        yield from read_item(source, item, _READ_ROWS, _PRODUCTS, columns, lambda key, reason: lost.append((key, reason)))
