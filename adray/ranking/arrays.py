"""Sorted keys and ragged rows in memory-mapped NumPy files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.errors import DataError


def find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions of `wanted` in the ascending `keys`, int64; -1 where absent."""
    if keys.size == 0:
        return np.full(wanted.shape, -1, dtype=np.int64)
    places = np.searchsorted(keys, wanted)
    places[places == keys.size] = 0
    return np.where(keys[places] == wanted, places, -1)


def flat_places(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Flat positions `starts[i] .. starts[i] + lengths[i] - 1` of every list i, one after the other; int64."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """int64 `[n + 1]` offsets of n lists of the given lengths."""
    offsets = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True)
class RaggedArray:
    """Lists in flat storage: list i is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray
    offsets: np.ndarray

    def take(self, rows: np.ndarray) -> RaggedArray:
        """The lists of the given rows; a row of -1 gives an empty list."""
        known = rows >= 0
        safe = np.where(known, rows, 0)
        if self.offsets.size < 2:
            return RaggedArray(np.empty(0, self.values.dtype), np.zeros(rows.size + 1, np.int64))
        starts = self.offsets[safe]
        lengths = np.where(known, self.offsets[safe + 1] - starts, 0)
        return RaggedArray(self.values[flat_places(starts, lengths)], offsets_of(lengths))

    def __len__(self) -> int:
        return self.offsets.size - 1

    def text(self, row: int) -> str:
        """The string whose UTF-8 bytes are list `row`."""
        return self.values[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    @staticmethod
    def concatenate(parts: list[RaggedArray]) -> RaggedArray:
        """All parts' lists, one part after the other."""
        lengths = np.concatenate([np.diff(p.offsets) for p in parts])
        return RaggedArray(np.concatenate([p.values for p in parts]), offsets_of(lengths))


def utf8(column: pa.Array) -> RaggedArray:
    """The UTF-8 bytes of each string; a null is empty."""
    texts = column.cast(pa.large_binary())
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    return RaggedArray(np.frombuffer(b"".join(t for t in texts.to_pylist() if t), dtype=np.uint8), offsets_of(lengths))


def save(folder: Path, name: str, array: np.ndarray | RaggedArray) -> None:
    """Write `<name>.npy`, or `<name>.values.npy` and `<name>.offsets.npy` for ragged rows."""
    if isinstance(array, RaggedArray):
        np.save(folder / f"{name}.values.npy", array.values)
        np.save(folder / f"{name}.offsets.npy", array.offsets)
    else:
        np.save(folder / f"{name}.npy", array)


def load(folder: Path, name: str) -> np.ndarray:
    """Memory-map `<name>.npy` read-only.

    Raises:
        DataError: If it is missing or not a plain array.
    """
    path = folder / f"{name}.npy"
    try:
        # A file of no bytes cannot be mapped.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "prepare the tables again") from None
    return array


def load_ragged(folder: Path, name: str) -> RaggedArray:
    """Memory-map ragged rows written by `save`."""
    return RaggedArray(load(folder, f"{name}.values"), load(folder, f"{name}.offsets"))
