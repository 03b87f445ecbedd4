"""Exact search over vectors that stream by: the ground truth that an index is measured against."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adray.data.hashing import hash_strings
from adray.representation.retrieval.search import NONE, Found, merge


class ExactSearch:
    """Keeps the k best of all vectors added so far.

    Args:
        queries: float32 `[q, dim]`.
        k: Neighbours.
        metric: `inner_product` or `l2` (squared distances).
    """

    def __init__(self, queries: np.ndarray, k: int, metric: str = "inner_product") -> None:
        self.queries = queries
        self._k, self._metric = k, metric
        worst = -np.inf if metric == "inner_product" else np.inf
        shape = (len(queries), k)
        self.found = Found(np.full(shape, NONE, np.int64), np.full(shape, worst, np.float32))

    def add(self, ids: pa.Array | np.ndarray, vectors: np.ndarray) -> None:
        """Score more vectors, float32 `[n, dim]`, with their creative ids or hashes `[n]`."""
        hashes = ids if isinstance(ids, np.ndarray) else hash_strings(ids)
        scores = self.queries @ vectors.T
        if self._metric == "l2":
            scores = np.square(self.queries).sum(1)[:, None] + np.square(vectors).sum(1)[None] - 2 * scores
        new = Found(np.broadcast_to(hashes, scores.shape), scores.astype(np.float32))
        self.found = merge([self.found, new], self._k, self._metric)

    def recall(self, ids: np.ndarray) -> float:
        """Share of the true neighbours that `ids` `[q, k]` holds (the intersection measure)."""
        shared = [len(np.intersect1d(a, b[b != NONE])) for a, b in zip(ids, self.found.ids, strict=True)]
        return float(np.sum(shared) / max(1, (self.found.ids != NONE).sum()))
