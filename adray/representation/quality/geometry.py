"""How vectors lie on the sphere: alignment and uniformity (Wang and Isola 2020)."""

from __future__ import annotations

import numpy as np


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance of positive pairs, `E |x - y|^2`; 0 when pairs coincide, 2 when they are orthogonal.

    Args:
        first: `[n, d]`, length 1.
        second: `[n, d]`, the other of each pair.
    """
    return float(np.square(np.asarray(first, np.float64) - second).sum(axis=1).mean()) if len(first) else float("nan")


def uniformity(vectors: np.ndarray, t: float = 2.0) -> float:
    """`log E exp(-t |x - y|^2)` over all pairs of different rows; 0 when all are equal, about `-4 + 8/d` at best (t = 2).

    Args:
        vectors: `[n, d]`, length 1.
        t: Sharpness.
    """
    rows = len(vectors)
    if rows < 2:
        return float("nan")
    total = 0.0
    for start in range(0, rows, 1024):
        cosines = np.asarray(vectors[start : start + 1024] @ vectors.T, np.float64)
        total += float(np.exp(-2 * t * (1 - cosines)).sum())
    # Each row's pair with itself adds exp(0).
    return float(np.log((total - rows) / (rows * (rows - 1))))
