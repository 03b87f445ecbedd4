"""The creatives that are judged: a sample of whole SKUs, without near-duplicates, with their labels and vectors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from adray.data.hashing import hash_strings
from adray.data.sources import open_source, read_part
from adray.data.validate import with_whole_paths
from adray.errors import DataError
from adray.representation.embedding.config import CreativesConfig
from adray.representation.embedding.provenance import Provenance, iterate_vectors
from adray.representation.quality.config import QualityConfig
from adray.representation.quality.duplicates import fingerprints, first_of_each
from adray.representation.reading import COLUMNS, creatives_from_arrow

_HASH_SIDE = 64
_DECODED = 256
_MOST_VALUES = 200
"""A column with more distinct values is no label."""


@dataclass(frozen=True)
class Judged:
    """n creatives, ordered by id.

    Attributes:
        rows: Their table: `COLUMNS` as far as there are.
        skus: int `[n]`, number of each creative's SKU.
        copies: int `[n]`, number of each creative's copy (equal copy, equal number); -1 where there is none.
        times: int64 `[n]`, milliseconds; None where the table has none.
        labels: By name, n texts or None.
        sampled: Creatives before near-duplicates were left out.
    """

    rows: pa.Table
    skus: np.ndarray
    copies: np.ndarray
    times: np.ndarray | None
    labels: dict[str, list[str | None]]
    sampled: int

    def __len__(self) -> int:
        return self.rows.num_rows

    @property
    def creative_ids(self) -> list[str]:
        """Their ids."""
        return self.rows.column("creative_id").to_pylist()


def select(data: CreativesConfig, config: QualityConfig, embedded: pa.Table, seed: int) -> Judged:
    """Draw SKUs, read their creatives, leave near-duplicates out, collect labels.

    Args:
        data: The source.
        config: Sizes and thresholds.
        embedded: `creative_id` and `sku_id` of all vectors.
        seed: Of the draw.

    Raises:
        DataError: If fewer than ten creatives are left.
    """
    wanted = _sample(embedded, config.max_creatives, seed)
    rows = _read(data.creatives, wanted).sort_by("creative_id")
    creatives, lost = creatives_from_arrow(rows, at_least=_HASH_SIDE)
    usable = np.delete(np.arange(rows.num_rows), [row for row, _ in lost])
    prints = fingerprints(creatives.pictures, creatives.copies)
    kept = usable[first_of_each(prints, config.duplicate_bits, config.duplicate_colour)]
    if len(kept) < 10:
        raise DataError(f"{len(kept)} creatives are left to judge by, of {rows.num_rows} drawn", "give more creatives")
    texts = dict(zip(usable.tolist(), prints.copies, strict=True))
    rows = rows.take(pa.array(kept))
    copies = np.unique([texts[row] for row in kept.tolist()], return_inverse=True)
    numbers = np.where(np.array([bool(texts[row]) for row in kept.tolist()]), copies[1], -1)
    skus = np.unique(rows.column("sku_id").to_pylist(), return_inverse=True)[1]
    labels = _labels(rows, data)
    times = rows.column("created_at").cast(pa.int64()).to_numpy() if _complete(rows, "created_at") else None
    known = [name for name in COLUMNS if name in rows.column_names]
    return Judged(rows.select(known), skus, numbers, times, labels, len(usable))


def _sample(embedded: pa.Table, most: int, seed: int) -> pa.Array:
    ids, skus = embedded.column("creative_id").to_pylist(), embedded.column("sku_id").to_pylist()
    sizes = Counter(skus)
    names = sorted(sizes)
    keys = hash_strings([f"judged:{seed}:{name}" for name in names])
    chosen: set[str] = set()
    total = 0
    for place in np.argsort(keys, kind="stable").tolist():
        if total and total + sizes[names[place]] > most:
            break
        chosen.add(names[place])
        total += sizes[names[place]]
    picked = [one for one, sku in zip(ids, skus, strict=True) if sku in chosen]
    # A folder of pictures may be one huge SKU (a class).
    order = np.argsort(hash_strings([f"judged:{seed}:{one}" for one in picked]), kind="stable")
    return pa.array([picked[i] for i in order[:most]])


def _read(path: str, wanted: pa.Array) -> pa.Table:
    source = open_source(path)
    names = [name for name in (*COLUMNS, "created_at", "elements") if name in source.schema.names]
    found = []
    for part in source.parts:
        for table in read_part(source, part, lambda key, reason: None):
            found.append(table.select(names).filter(pc.is_in(table.column("creative_id"), value_set=wanted)))
    return with_whole_paths(pa.concat_tables(found).combine_chunks(), source.folder)


def _complete(rows: pa.Table, name: str) -> bool:
    return name in rows.column_names and rows.column(name).null_count == 0


def _labels(rows: pa.Table, data: CreativesConfig) -> dict[str, list[str | None]]:
    """Category of the SKU, elements of the creative, and text columns of the attributes."""
    found: dict[str, list[str | None]] = {}
    skus = rows.column("sku_id").to_pylist()
    if data.products is not None:
        products = _table(data.products, "sku_id")
        if "category" in products.column_names:
            by_sku = dict(zip(products["sku_id"].to_pylist(), products["category"].to_pylist(), strict=True))
            found["category"] = [by_sku.get(sku) for sku in skus]
    if "category" not in found and all("/" in sku for sku in skus):
        # A folder of pictures sorted by class: the innermost folder is the class.
        found["category"] = [sku.rsplit("/", 1)[-1] for sku in skus]
    if "elements" in rows.column_names:
        elements = [dict(pairs or []) for pairs in rows.column("elements").to_pylist()]
        for slot in sorted({slot for one in elements for slot in one}):
            found[f"element_{slot}"] = [one.get(slot) for one in elements]
    if data.attributes is not None:
        attributes = _table(data.attributes, "creative_id")
        places = {one: i for i, one in enumerate(attributes["creative_id"].to_pylist())}
        for name, values in _leaves(attributes):
            found[name] = [values[places[one]] if one in places else None for one in rows.column("creative_id").to_pylist()]
    return {name: values for name, values in found.items() if 2 <= len(set(values) - {None}) <= _MOST_VALUES}


def _table(path: str, key: str) -> pa.Table:
    try:
        table = pyarrow.dataset.dataset(path, format="parquet")
        found = table.to_table(columns=[name for name in table.schema.names if name not in ("cutout", "image")])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"table {path} cannot be read: {error}", "check the path") from None
    if key not in found.column_names:
        raise DataError(f"{path} has no column {key!r}", f"columns found: {', '.join(found.column_names)}")
    return found


def _leaves(table: pa.Table) -> list[tuple[str, list[Any]]]:
    """Text columns, also inside structs where they are called `name` or `value`; lists and everything else are passed over."""
    found = []
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    for field in table.schema:
        *path, last = field.name.split(".")
        if pa.types.is_string(field.type) and (last in ("name", "value") if path else last not in ("creative_id", "sku_id")):
            found.append(("_".join(path or [last]), table.column(field.name).to_pylist()))
    return found


def vectors_of(table: str, provenance: Provenance, creative_ids: list[str]) -> np.ndarray:
    """Vectors of some creatives, float32 `[n, dim]`; zeros where the table has none."""
    found = np.zeros((len(creative_ids), provenance.dim), np.float32)
    hashes = hash_strings(creative_ids)
    order = np.argsort(hashes)
    for ids, vectors in iterate_vectors(table, provenance):
        these = hash_strings(ids)
        places = order[np.minimum(np.searchsorted(hashes, these, sorter=order), len(order) - 1)]
        held = hashes[places] == these
        found[places[held]] = vectors[held]
    return found


def pictures_of(judged: Judged, rows: list[int]) -> list[np.ndarray | None]:
    """Decoded pictures of some of the creatives, for people to look at."""
    found: list[np.ndarray | None] = []
    for row in rows:
        creatives, _ = creatives_from_arrow(judged.rows.slice(row, 1), at_least=_DECODED)
        found.append(creatives.pictures[0] if len(creatives) else None)
    return found


def is_table(folder: str | Path) -> bool:
    """Whether a folder holds Parquet files itself."""
    return Path(folder).is_file() or any(Path(folder).glob("*.parquet"))
