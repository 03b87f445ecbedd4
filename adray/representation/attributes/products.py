"""What the products table tells of creatives: titles by SKU, and the catalogue's brands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adray.data.hashing import hash_strings
from adray.data.parquet import GroupReader, check_columns, open_parquet


@dataclass(frozen=True)
class Titles:
    """Titles of SKUs, in a form that processes share without a copy.

    Attributes:
        skus: int64 `[n]`, hashed SKU ids, ascending.
        titles: Their titles.
    """

    skus: np.ndarray
    titles: pa.StringArray

    def of(self, sku_ids: Sequence[str]) -> list[str]:
        """Titles of SKUs; empty where unknown."""
        if not len(self.skus) or not sku_ids:
            return [""] * len(sku_ids)
        wanted = hash_strings(list(sku_ids))
        places = np.minimum(np.searchsorted(self.skus, wanted), len(self.skus) - 1)
        known = self.skus[places] == wanted
        return [self.titles[int(place)].as_py() or "" if found else "" for place, found in zip(places, known, strict=True)]


NO_TITLES = Titles(np.zeros(0, np.int64), pa.array([], pa.string()))


def read_products(path: str) -> tuple[Titles, list[str]]:
    """Read a products table.

    Args:
        path: Parquet with `sku_id`, `title` and perhaps `attributes` (a map with key `brand`).

    Returns:
        The titles, and the different brands in alphabetic order.

    Raises:
        DataError: If it cannot be read or lacks a column.
    """
    table = open_parquet(path)
    check_columns(table, ["sku_id", "title"])
    columns = [name for name in ("sku_id", "title", "attributes") if name in table.schema.names]
    reader = GroupReader(table, columns)
    hashes, titles, brands = [], [], set()
    for group in table.groups:
        rows = reader.read(group)
        hashes.append(hash_strings(rows.column("sku_id")))
        titles.append(rows.column("title").combine_chunks())
        if "attributes" in columns:
            for pairs in rows.column("attributes").to_pylist():
                brands |= {value for key, value in pairs or () if key == "brand" and value}
    reader.close()
    if not hashes:
        return NO_TITLES, []
    skus = np.concatenate(hashes)
    order = np.argsort(skus, kind="stable")
    parts = [one for chunk in titles for one in (chunk.chunks if isinstance(chunk, pa.ChunkedArray) else [chunk])]
    joined = pa.concat_arrays(parts).cast(pa.string())
    return Titles(skus[order], joined.take(pa.array(order))), sorted(brands)
