"""Creatives from a folder of pictures, with the sub-folder's name as the category; and labelled creatives from any table."""

from __future__ import annotations

import pyarrow as pa

from adray.data.parquet import GroupReader, open_parquet
from adray.data.schema import IMAGE
from adray.data.sources import PICTURE_SUFFIXES
from adray.data.storage import find_files, is_folder
from adray.errors import DataError


def holds_pictures(path: str) -> bool:
    """Whether a path is a folder of pictures rather than a table."""
    if not is_folder(path):
        return False
    _, files = find_files(path, (".parquet", *PICTURE_SUFFIXES))
    return bool(files) and not any(file.endswith(".parquet") for file in files)


def creatives_of_folder(path: str) -> pa.Table:
    """One creative per picture, each of its own SKU, in order of path.

    Args:
        path: A folder; pictures may lie in sub-folders.

    Returns:
        `creative_id` and `sku_id` (the path below the folder), `image` (by path), `copy` (empty), `category` (the name of the
        sub-folder, null for pictures right in the folder).

    Raises:
        DataError: If there is no picture.
    """
    _, files = find_files(path, PICTURE_SUFFIXES)
    if not files:
        raise DataError(f"{path} holds no pictures", f"known: {', '.join(PICTURE_SUFFIXES)}")
    root = path.partition("://")[2].rstrip("/") if "://" in path else path.rstrip("/")
    scheme = path[: len(path) - len(path.partition("://")[2])] if "://" in path else ""
    names = [file.removeprefix(root + "/") for file in sorted(files)]
    images = [{"bytes": None, "path": scheme + file} for file in sorted(files)]
    categories = [name.rpartition("/")[0].rpartition("/")[2] or None for name in names]
    columns = {
        "creative_id": pa.array(names, pa.string()),
        "sku_id": pa.array(names, pa.string()),
        "image": pa.array(images, IMAGE),
        "copy": pa.array([""] * len(names), pa.string()),
        "category": pa.array(categories, pa.string()),
    }
    return pa.table(columns)


def creatives_table(path: str) -> pa.Table:
    """All rows of a creatives table, or of a folder of pictures seen as one.

    Pictures held as bytes come with it: this is for tables that fit into memory.

    Args:
        path: A Parquet file, folder or glob, or a folder of pictures; local or a URI.

    Raises:
        DataError: If nothing readable is there.
    """
    if holds_pictures(path):
        return creatives_of_folder(path)
    table = open_parquet(path)
    reader = GroupReader(table)
    try:
        return pa.concat_tables([reader.read(group) for group in table.groups], promote_options="default")
    finally:
        reader.close()


def labels_of(table: pa.Table, column: str, path: str) -> list[str]:
    """A creatives table's labels as text.

    Args:
        table: Its rows.
        column: The column.
        path: What to call the table in errors.

    Raises:
        DataError: If the column is missing or a row has no label.
    """
    if column not in table.column_names:
        raise DataError(f"{path} has no column {column!r}", f"set data.label to one of: {', '.join(table.column_names)}")
    labels = table.column(column).cast(pa.string()).to_pylist()
    if None in labels:
        raise DataError(f"{path}: row {labels.index(None)} has no {column}", "give every row a label")
    return labels
