"""Running sums, last values and samples over a stream of rows, in memory bounded by the number of distinct keys."""

from __future__ import annotations

import numpy as np

from adray.ranking.arrays import RaggedArray

_PENDING_ROWS = 2_000_000


class Counts:
    """Impressions and clicks per int64 key."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._pending = 0

    def add(self, keys: np.ndarray, impressions: np.ndarray, clicks: np.ndarray) -> None:
        """Add rows `[n]` each."""
        self._parts.append(_summed(keys, impressions, clicks))
        self._pending += self._parts[-1][0].size
        if self._pending > _PENDING_ROWS + self._parts[0][0].size:
            self._consolidate()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distinct keys, ascending, and their float64 sums."""
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0), np.empty(0)
        self._consolidate()
        return self._parts[0]

    def _consolidate(self) -> None:
        keys, impressions, clicks = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        self._parts = [_summed(keys, impressions, clicks)]
        self._pending = 0


class LastSeen:
    """The latest feature row per int64 key; of rows with one time, the one read last."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray | RaggedArray]]] = []
        self._pending = 0

    def add(self, keys: np.ndarray, times: np.ndarray, columns: dict[str, np.ndarray | RaggedArray]) -> None:
        """Add rows: keys and times int64 `[n]`, columns flat `[n]` or ragged with n lists."""
        self._parts.append(_latest(keys, times, columns))
        self._pending += self._parts[-1][0].size
        if self._pending > _PENDING_ROWS + self._parts[0][0].size:
            self._consolidate()

    def result(self) -> dict[str, np.ndarray | RaggedArray]:
        """The latest values of every column, in ascending order of the distinct keys."""
        if not self._parts:
            return {}
        self._consolidate()
        return self._parts[0][2]

    def _consolidate(self) -> None:
        keys = np.concatenate([p[0] for p in self._parts])
        times = np.concatenate([p[1] for p in self._parts])
        columns = {name: _joined([p[2][name] for p in self._parts]) for name in self._parts[0][2]}
        self._parts = [_latest(keys, times, columns)]
        self._pending = 0


class Sample:
    """A uniform sample of a column, at most `limit` values, drawn without knowing the column's length.

    Args:
        limit: Most values kept.
        seed: Seed of the draw.
    """

    def __init__(self, limit: int = 200_000, seed: int = 0) -> None:
        self.limit = limit
        self.values = np.empty(0, np.float32)
        self._rate = 1.0
        self._random = np.random.default_rng(seed)

    def add(self, values: np.ndarray) -> None:
        """Offer float values `[n]`; NaN is left out."""
        values = values[np.isfinite(values)]
        kept = values if self._rate == 1.0 else values[self._random.random(values.size) < self._rate]
        self.values = np.concatenate([self.values, kept])
        while self.values.size > self.limit:
            self.values = self.values[self._random.random(self.values.size) < 0.5]
            self._rate /= 2


def _summed(keys: np.ndarray, impressions: np.ndarray, clicks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    distinct, place = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(place, impressions, distinct.size), np.bincount(place, clicks, distinct.size)


def _latest(
    keys: np.ndarray, times: np.ndarray, columns: dict[str, np.ndarray | RaggedArray]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray | RaggedArray]]:
    order = np.lexsort((times, keys))
    last = np.append(np.diff(keys[order]) != 0, True)[: order.size]
    rows = order[last]
    taken = {name: column.take(rows) if isinstance(column, RaggedArray) else column[rows] for name, column in columns.items()}
    return keys[rows], times[rows], taken


def _joined(parts: list[np.ndarray | RaggedArray]) -> np.ndarray | RaggedArray:
    ragged = [p for p in parts if isinstance(p, RaggedArray)]
    return RaggedArray.concatenate(ragged) if ragged else np.concatenate([p for p in parts if isinstance(p, np.ndarray)])
