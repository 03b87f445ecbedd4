"""Pairs of creatives' views as tables: which belong together, which are held out, which are hard to tell apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adray.data.hashing import hash_strings
from adray.data.schema import IMAGE
from adray.errors import DataError
from adray.files import replacing_folder
from adray.representation.contrastive.config import PairsConfig
from adray.representation.contrastive.identity import normalised
from adray.representation.contrastive.mining import hard_negatives
from adray.representation.picture_folder import creatives_table

TRAIN, HOLDOUT = "train", "holdout"
_CREATIVE = pa.struct([("creative_id", pa.string()), ("sku_id", pa.string()), ("image", IMAGE), ("copy", pa.string())])
SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("query", _CREATIVE),
        ("document", _CREATIVE),
        ("hard", pa.list_(_CREATIVE)),
        ("query_log_frequency", pa.float32()),
        ("document_log_frequency", pa.float32()),
    ]
)
"""A row is a pair. View `image_copy`: the query's picture beside the document's copy, both of one creative. View `same_sku`:
two whole creatives of a SKU."""


def write_pairs(config: PairsConfig, seed: int, folder: Path) -> dict[str, int]:
    """Read the creatives, hold out whole SKUs, and write the pairs of both parts.

    The creatives are read as a whole; pictures given by path stay where they are.

    Args:
        config: Source, views, hard negatives.
        seed: Of the pairing within a SKU.
        folder: Gets `train/` and `holdout/` (the held-out creatives, one row each, as `image_copy` pairs).

    Returns:
        Rows by part: `train`, `holdout`, `creatives`.

    Raises:
        DataError: If the table cannot be read, lacks pictures or copy for its views, or nothing is left to train on.
    """
    table = _creatives(config.path)
    skus = table.column("sku_id")
    held = held_out(hash_strings(skus.combine_chunks()), config.holdout)
    train, holdout = (table.filter(pa.array(mask)) for mask in (~held, held))
    parts = [_view(train, view, seed) for view in config.views]
    pairs = pa.concat_tables(parts)
    if config.hard_negatives is not None:
        pairs = hard_negatives(pairs, train, config.hard_negatives, SCHEMA)
    if pairs.num_rows == 0:
        raise DataError(
            f"{config.path} gives no pairs for views {', '.join(config.views)}",
            "they need pictures with copy, or SKUs with several creatives",
        )
    with replacing_folder(folder) as partial:
        _write(pairs, partial / TRAIN, config.row_group_rows)
        _write(_view(holdout, "image_copy", seed), partial / HOLDOUT, config.row_group_rows)
        rows = {"train": pairs.num_rows, "holdout": pq.read_metadata(partial / HOLDOUT / "pairs.parquet").num_rows}
    return {**rows, "creatives": table.num_rows}


def held_out(sku_hashes: np.ndarray, share: float) -> np.ndarray:
    """Whether each creative is held out, bool `[n]`: by its SKU, so that no SKU is on both sides, whatever else is in the table."""
    # The hash is uniform; its low 32 bits are as good as any.
    return (sku_hashes.view(np.uint64) & np.uint64(0xFFFFFFFF)) < np.uint64(share * 2**32)


def _creatives(path: str) -> pa.Table:
    source = Path(path) / "creatives.parquet" if "://" not in path and (Path(path) / "creatives.parquet").exists() else path
    table = creatives_table(str(source))
    missing = [name for name in ("creative_id", "sku_id") if name not in table.column_names]
    if missing:
        raise DataError(f"{source} has no column {missing[0]!r}", f"columns found: {', '.join(table.column_names)}")
    rows = table.num_rows
    columns = {
        "creative_id": table.column("creative_id").cast(pa.string()),
        "sku_id": table.column("sku_id").cast(pa.string()),
        "image": table.column("image").cast(IMAGE) if "image" in table.column_names else pa.nulls(rows, IMAGE),
        "copy": table.column("copy").cast(pa.string()) if "copy" in table.column_names else pa.nulls(rows, pa.string()),
    }
    return pa.table(columns).combine_chunks()


def _view(table: pa.Table, view: str, seed: int) -> pa.Table:
    """Pairs of one view, `SCHEMA` columns."""
    structs = _structs(table)
    if view == "image_copy":
        has_copy = pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(table.column("copy"), "")), "")
        first = second = np.flatnonzero(pc.and_(_has_picture(table), has_copy).to_numpy(zero_copy_only=False))
    else:
        first, second = _within_skus(table.column("sku_id").to_pylist(), seed)
    query, document = structs.take(pa.array(first)), structs.take(pa.array(second))
    rows = len(first)
    columns = {
        "view": pa.array([view] * rows, pa.string()),
        "query": query,
        "document": document,
        "hard": pa.array([[]] * rows, SCHEMA.field("hard").type),
        "query_log_frequency": _log_frequency(_content(table, first, view, query=True)),
        "document_log_frequency": _log_frequency(_content(table, second, view, query=False)),
    }
    return pa.table(columns, schema=SCHEMA)


def _structs(table: pa.Table) -> pa.StructArray:
    arrays = []
    for field in _CREATIVE:
        column = table.column(field.name).combine_chunks()
        arrays.append(column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks == 1 else column)
    if table.num_rows == 0:
        return pa.array([], _CREATIVE)
    return pa.StructArray.from_arrays(arrays, fields=list(_CREATIVE))


def _has_picture(table: pa.Table) -> pa.Array:
    image = table.column("image")
    bytes_, path = (pc.is_valid(pc.struct_field(image, name)) for name in ("bytes", "path"))
    return pc.or_(bytes_, path)


def _within_skus(skus: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each creative with another of its SKU: neighbours on a seeded cycle through the SKU's creatives."""
    order = np.random.default_rng(seed).permutation(len(skus))
    cycles: dict[str, list[int]] = {}
    for row in order.tolist():
        cycles.setdefault(skus[row], []).append(row)
    rows = [cycle for cycle in cycles.values() if len(cycle) > 1]
    first = [row for cycle in rows for row in cycle]
    second = [row for cycle in rows for row in cycle[1:] + cycle[:1]]
    return np.array(first, np.int64), np.array(second, np.int64)


def _content(table: pa.Table, rows: np.ndarray, view: str, *, query: bool) -> list[str]:
    """What tells equal queries or documents apart from others: the copy where only copy is read, else the creative."""
    if view == "image_copy" and not query:
        return [normalised(copy or "") for copy in table.column("copy").take(pa.array(rows)).to_pylist()]
    return table.column("creative_id").take(pa.array(rows)).to_pylist()


def _log_frequency(contents: list[str]) -> pa.Array:
    values, counts = np.unique(np.array(contents, dtype=object).astype(str), return_counts=True)
    share = dict(zip(values.tolist(), np.log(counts / max(len(contents), 1)).tolist(), strict=True))
    return pa.array([share[value] for value in contents], pa.float32())


def _write(table: pa.Table, folder: Path, group_rows: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "pairs.parquet", row_group_size=group_rows)
