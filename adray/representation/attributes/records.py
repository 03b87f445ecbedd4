"""Catalogues that are a JSON or YAML list of records, made into `creatives` and `products` tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from adray.data.schema import CREATIVES, IMAGE, PRODUCTS
from adray.errors import ConfigError, DataError
from adray.files import replacing_folder, sha256, write_json

SUFFIXES = (".json", ".yaml", ".yml")
COLUMNS = ("creative_id", "sku_id", "title", "copy", "brand")
"""What may be read from a record."""

_GROUP_ROWS = 1024
_MARK = "made-of.json"


def is_records(path: str) -> bool:
    """Whether a path is a list of records."""
    return path.lower().endswith(SUFFIXES)


def write_tables(path: str, columns: Mapping[str, str], picture: str | None, folder: Path) -> tuple[Path, Path]:
    """Write a catalogue's records as standard tables; tables made before of the same records stay as they are.

    Args:
        path: The file: a list of mappings.
        columns: Standard column -> field; a column that is not named is read from the field of its own name, if there.
        picture: Path of a record's picture below the file's folder, with fields in braces. A record whose picture is not
            there is quarantined later, with the reason.
        folder: Where `creatives.parquet` and `products.parquet` go.

    Returns:
        The two files.

    Raises:
        DataError: If the file cannot be read or is no list of records with an id.
        ConfigError: If a field that is named does not exist.
    """
    records = read_records(path)
    # Work on a table that was written anew would be done anew.
    mark = {"path": path, "content": sha256(Path(path)), "columns": dict(columns), "picture": picture}
    tables = folder / "creatives.parquet", folder / "products.parquet"
    if (folder / _MARK).is_file() and json.loads((folder / _MARK).read_text(encoding="utf-8")) == mark:
        return tables
    names = set().union(*(record.keys() for record in records))
    for name, field in columns.items():
        if field not in names:
            raise ConfigError(
                f"field 'data.columns.{name}' is {field!r}, the records have {', '.join(sorted(map(str, names)))}", "name one"
            )
    creatives, products = [], {}
    for number, record in enumerate(records):
        ids = _text(record, columns, "creative_id")
        if ids is None:
            raise DataError(f"{path}: record {number} has no {columns.get('creative_id', 'creative_id')!r}", "map data.columns.creative_id")
        sku = _text(record, columns, "sku_id") or ids
        image = {"bytes": None, "path": str(Path(path).parent / _picture_path(picture, record))} if picture else None
        creatives.append({"creative_id": ids, "sku_id": sku, "image": image, "copy": _text(record, columns, "copy")})
        brand = _text(record, columns, "brand")
        title = _text(record, columns, "title") or ""
        products[sku] = {"sku_id": sku, "title": title, "attributes": [("brand", brand)] if brand else []}
    fields = [*CREATIVES.required, pa.field("image", IMAGE), pa.field("copy", pa.string())]
    wanted = [*PRODUCTS.required, PRODUCTS.optional.field("attributes")]
    with replacing_folder(folder) as partial:
        pq.write_table(pa.Table.from_pylist(creatives, schema=pa.schema(fields)), partial / "creatives.parquet", row_group_size=_GROUP_ROWS)
        pq.write_table(pa.Table.from_pylist(list(products.values()), schema=pa.schema(wanted)), partial / "products.parquet")
        write_json(partial / _MARK, mark)
    return tables


def read_records(path: str) -> list[dict[str, Any]]:
    """Parse a list of records.

    Raises:
        DataError: If it is not one.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        # JSON first: it is read a hundred times faster than YAML.
        loaded = json.loads(text) if path.lower().endswith(".json") else yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}", "give a .json or .yaml list of records") from None
    if not isinstance(loaded, list) or not loaded or not all(isinstance(record, dict) for record in loaded):
        raise DataError(f"{path} is no list of records", "write a list of mappings, one per creative")
    return loaded


def _text(record: Mapping[str, Any], columns: Mapping[str, str], name: str) -> str | None:
    value = record.get(columns.get(name, name))
    return None if value is None else str(value)


def _picture_path(pattern: str, record: Mapping[str, Any]) -> str:
    try:
        return pattern.format(**{str(name): value for name, value in record.items()})
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"field 'data.picture' is {pattern!r}: no field {error}", "use fields of the records in braces") from None
