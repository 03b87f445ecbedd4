"""Percentile bootstrap intervals by drawing whole groups (users, ads, SKUs or lists) with replacement.

Rows of one user, one SKU or one list are not independent, so the unit that is drawn is the group (the cluster bootstrap;
Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Nearly every metric is a
function of sums over groups; those sums are all that a draw needs, so a thousand draws cost one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A figure and how far it might be off.

    Attributes:
        value: The figure on all data.
        low: Lower end of the interval.
        high: Upper end of the interval.
        groups: How many groups were drawn from; an interval over a handful of groups is too narrow to trust.
        level: Coverage the interval aims at, in (0, 1).
    """

    value: float
    low: float
    high: float
    groups: int
    level: float = 0.95

    def metrics(self, name: str) -> dict[str, float]:
        """The interval as flat metrics: `name`, `name_low`, `name_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def sums_intervals(
    statistics: npt.ArrayLike,
    of_sums: Mapping[str, Callable[[Array], Array]],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of figures that depend on the data through sums over groups; all see the same draws.

    Args:
        statistics: `[groups, k]`, each group's k sufficient statistics.
        of_sums: By name, what maps sums `[..., k]` to a figure `[...]`, vectorised.
        resamples: Number of bootstrap draws.
        level: Coverage, in (0, 1).
        seed: Seed of the draws; the same seed and data give the same intervals.

    Returns:
        The intervals by name. Draws in which a figure is undefined (NaN) are left out; without groups all ends are NaN.
    """
    table = np.asarray(statistics, dtype=np.float64)
    groups = table.shape[0]
    blocks = [_times_drawn(rows, groups) @ table for rows in _draws(groups, resamples, seed)] if groups else []
    sums = np.concatenate(blocks) if blocks else np.zeros((0, table.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: _percentiles(float(figure(table.sum(axis=0))), figure(sums), groups, level) for name, figure in of_sums.items()}


def ratio_interval(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of a ratio of sums over groups, `sum(numerators) / sum(denominators)`.

    Args:
        numerators: `[groups]`.
        denominators: `[groups]`; ones make the figure a mean.
        resamples: Number of bootstrap draws.
        level: Coverage, in (0, 1).
        seed: Seed of the draws.
    """
    table = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    return sums_intervals(table, {"": lambda sums: sums[..., 0] / sums[..., 1]}, resamples=resamples, level=level, seed=seed)[""]


def difference_interval(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of the difference of two ratios measured on the same groups (paired, so what both share cancels).

    Args:
        first: Numerators and denominators `[groups]` of the first ratio.
        second: The same of the ratio that is taken off.
        resamples: Number of bootstrap draws.
        level: Coverage, in (0, 1).
        seed: Seed of the draws.
    """
    table = np.stack([np.asarray(part, np.float64) for part in (*first, *second)], axis=1)
    figure = {"": lambda s: s[..., 0] / s[..., 1] - s[..., 2] / s[..., 3]}
    return sums_intervals(table, figure, resamples=resamples, level=level, seed=seed)[""]


def weighted_interval(
    statistic: Callable[[Array], float], groups: int, *, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of a figure that is not a function of sums, such as the AUC.

    Args:
        statistic: Maps how often each group counts (float64 `[groups]`) to the figure.
        groups: Number of groups.
        resamples: Number of bootstrap draws; the figure is computed once for each.
        level: Coverage, in (0, 1).
        seed: Seed of the draws.
    """
    value = statistic(np.ones(groups))
    if groups == 0:
        return Interval(value, float("nan"), float("nan"), 0, level)
    draws = [statistic(weights) for rows in _draws(groups, resamples, seed) for weights in _times_drawn(rows, groups)]
    return _percentiles(value, np.asarray(draws), groups, level)


def _draws(groups: int, resamples: int, seed: int) -> Iterator[Array]:
    """Blocks `[draws, groups]` of group numbers drawn with replacement, small enough to hold in memory."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, resamples, at_once):
        yield rng.integers(0, groups, size=(min(at_once, resamples - start), groups), dtype=np.int32)


def _times_drawn(rows: Array, groups: int) -> Array:
    """How often each group was drawn, float64 `[draws, groups]`."""
    return np.stack([np.bincount(drawn, minlength=groups) for drawn in rows]).astype(np.float64)


def _percentiles(value: float, draws: Array, groups: int, level: float) -> Interval:
    defined = draws[np.isfinite(draws)]
    if defined.size == 0:
        return Interval(value, float("nan"), float("nan"), groups, level)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), groups, level)
