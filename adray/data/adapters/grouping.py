"""Several source rows to one: rows of one key are brought together and folded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adray.data.hashing import hash_strings

_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Grouping:
    """How rows are folded.

    Attributes:
        keys: Columns whose equal values make one group.
        make: All rows of some whole groups, in source order, to finished rows: one per group, or (for a table of the
            groups' members) any number.
    """

    keys: tuple[str, ...]
    make: Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Groups:
    """Rows sorted so that each group's are together, groups by first appearance, rows within one in source order.

    Attributes:
        rows: The sorted rows.
        first: int64 `[groups]`, each group's first row.
        offsets: int32 `[groups + 1]`.
    """

    rows: pa.Table
    first: pa.Array
    offsets: pa.Array

    def within(self) -> np.ndarray:
        """int64 `[rows]`, each row's place in its group."""
        offsets = self.offsets.to_numpy()
        return np.arange(self.rows.num_rows) - np.repeat(offsets[:-1], np.diff(offsets))

    def lists(self, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        """A column of the sorted rows as one list per group."""
        flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if isinstance(flat, pa.ChunkedArray):
            flat = flat.chunk(0) if flat.num_chunks else pa.array([], flat.type)
        return pa.ListArray.from_arrays(self.offsets, flat)


def key_hashes(rows: pa.Table, keys: tuple[str, ...]) -> np.ndarray:
    """uint64 `[rows]`, one hash over the key columns."""
    hashes = np.zeros(rows.num_rows, np.uint64)
    for key in keys:
        hashes = (hashes * _MIX) ^ hash_strings(rows.column(key)).view(np.uint64)
    # The last multiplication spreads the bits: buckets are taken from the high ones.
    return hashes * _MIX


def group_rows(rows: pa.Table, keys: tuple[str, ...]) -> Groups:
    """Bring rows of one key together. Groups are told apart by 64-bit hashes of their keys."""
    _, first, inverse = np.unique(key_hashes(rows, keys), return_index=True, return_inverse=True)
    # `unique` numbers groups by hash; `rank` numbers them by first appearance.
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    group = rank[inverse]
    order = np.argsort(group, kind="stable")
    offsets = np.zeros(len(first) + 1, np.int32)
    np.cumsum(np.bincount(group, minlength=len(first)), out=offsets[1:])
    return Groups(rows.take(pa.array(order)), pa.array(offsets[:-1].astype(np.int64)), pa.array(offsets, pa.int32()))
