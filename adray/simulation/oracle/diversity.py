"""How much the backgrounds of pictures differ from one another. The definition is ours.

The headline compares what is seen: over all pairs of two pictures, the root mean square difference of their backgrounds' colours
in [0, 1], on a grid of 8 x 8 cells, where both show background; averaged over the pairs. Equal backgrounds give 0. Beside it stand
the same figure over pairs that were asked for the same wall colour, which prompts alone cannot raise, and the mean
difference of each thing that is measured: wall colour, surface colour, place of the line, and kind of reference.
"""

from __future__ import annotations

import numpy as np

from adray.bootstrap import Interval, weighted_interval
from adray.simulation.oracle.background import Backgrounds

HEADLINE = ""
"""Name of the headline among `distances`."""
Pairs = tuple[np.ndarray, np.ndarray]
"""float32 `[n, n]` distances and float32 `[n, n]` weights of pairs; 0 on the diagonal."""


def distances(found: Backgrounds, asked: np.ndarray) -> dict[str, Pairs]:
    """Distances between all pairs of n pictures.

    Args:
        found: Their backgrounds.
        asked: int64 `[n]`, wall colour that each was asked for; -1 for none.

    Returns:
        By name: "" (the headline), `/within_colour`, `/wall`, `/floor`, `/line`, `/reference`.
    """
    different = 1.0 - np.eye(len(found), dtype=np.float32)
    seen = found.seen.reshape(len(found), -1).astype(np.float32)
    shared = seen @ seen.T
    cells = _rms(found.cells.reshape(len(found), -1), np.repeat(seen, 3, axis=1), 3 * shared)
    pairs = different * (shared > 0)
    same_colour = (asked[:, None] == asked[None, :]) & (asked >= 0)[:, None]

    def apart(colours: np.ndarray) -> np.ndarray:
        ones = np.ones_like(colours)
        return _rms(colours, ones, ones @ ones.T)

    return {
        HEADLINE: (cells, pairs),
        "/within_colour": (cells, pairs * same_colour),
        "/wall": (apart(found.wall), different),
        "/floor": (apart(found.floor), different),
        "/line": (np.abs(found.line[:, None] - found.line[None, :]).astype(np.float32), different),
        "/reference": ((found.reference[:, None] != found.reference[None, :]).astype(np.float32), different),
    }


def _rms(values: np.ndarray, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Root mean square difference of every two rows, over the columns that have weight in both."""
    # In double: the three products cancel where rows are alike.
    weighed, weights = values.astype(np.float64) * weights, weights.astype(np.float64)
    squares = (weighed * values) @ weights.T
    sums = squares + squares.T - 2.0 * weighed @ weighed.T
    return np.sqrt(np.maximum(sums, 0.0) / np.maximum(total, 1e-9)).astype(np.float32)


def mean_distance(pairs: Pairs, counts: np.ndarray | None = None) -> float:
    """Mean over pairs of different pictures; NaN without any.

    Args:
        pairs: From `distances`.
        counts: float `[n]`, how often each picture counts; None: once.
    """
    distance, weights = pairs
    times = np.ones(len(distance)) if counts is None else counts
    total = float(times @ weights @ times)
    return float(times @ (distance * weights) @ times) / total if total else float("nan")


def kept(new: Pairs, old: Pairs, groups: np.ndarray, resamples: int, seed: int) -> Interval:
    """How much of the diversity of old pictures new ones of the same requests have: a ratio with its interval.

    Args:
        new: Distances of the new pictures.
        old: Of the old ones, in the same order.
        groups: int64 `[n]`, product of each, 0 to its number: what the bootstrap draws.
        resamples: Draws.
        seed: Of the draws.
    """
    # Summed to products first, a draw costs products squared, not pictures squared.
    sums = [_by_group(part, groups) for distance, weights in (new, old) for part in (distance * weights, weights)]

    def ratio(times: np.ndarray) -> float:
        new_sum, new_total, old_sum, old_total = (float(times @ part @ times) for part in sums)
        below = old_sum * new_total
        return new_sum * old_total / below if below else float("nan")

    return weighted_interval(ratio, int(groups.max()) + 1, resamples=resamples, seed=seed)


def _by_group(matrix: np.ndarray, groups: np.ndarray) -> np.ndarray:
    found = np.zeros((groups.max() + 1, len(matrix)))
    np.add.at(found, groups, matrix)
    both = np.zeros((groups.max() + 1, groups.max() + 1))
    np.add.at(both, groups, found.T)
    return both


def diversity(found: Backgrounds, asked: np.ndarray) -> dict[str, float]:
    """All figures of one table, by the names of `distances`."""
    return {name: mean_distance(pairs) for name, pairs in distances(found, asked).items()}
