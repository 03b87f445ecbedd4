"""The figures of a study: means with t-intervals over seeds, paired differences to a reference, and their plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cells = Mapping[tuple[str, int], Mapping[str, float]]
"""(variant, seed) -> metric -> value, of the runs that finished."""


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its confidence interval; the bounds are NaN for fewer than two values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One variant under one metric.

    Attributes:
        variant: The variant's name.
        metric: The metric's name.
        seeds: Runs that finished.
        mean: Mean over seeds.
        low: Lower bound of its t-interval.
        high: Upper bound.
        difference: Mean over seeds of (this variant - reference); NaN without a reference.
        difference_low: Lower bound of the paired difference's t-interval.
        difference_high: Upper bound.
        wins: Seeds in which this variant was strictly better than the reference.
        pairs: Seeds in which both finished.
    """

    variant: str
    metric: str
    seeds: int
    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    wins: int
    pairs: int


def t_interval(values: Sequence[float], confidence: float) -> Interval:
    """Mean and two-sided Student t-interval: mean +- t(confidence, n - 1) * s / sqrt(n).

    Args:
        values: One value per seed.
        confidence: Probability of the interval, in (0, 1).
    """
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan)
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def compare(
    cells: Cells,
    variants: Sequence[str],
    metrics: Sequence[str],
    *,
    reference: str | None,
    lower_is_better: Sequence[str] = (),
    confidence: float = 0.95,
) -> list[Row]:
    """Summarise a study: one row per metric and variant, variants in the given order.

    Differences are taken within a seed, so what a seed does to every variant alike (an easy world, a lucky split) cancels.

    Args:
        cells: The finished runs' metrics.
        variants: Names in the order of the rows.
        metrics: Names of the metrics to compare.
        reference: The variant that the others are held against, or None.
        lower_is_better: Metrics of which a smaller value wins.
        confidence: Probability of the intervals.
    """
    rows = []
    for metric in metrics:
        values = {v: {seed: m[metric] for (name, seed), m in cells.items() if name == v and metric in m} for v in variants}
        for variant in variants:
            own = values[variant]
            summary = t_interval(list(own.values()), confidence)
            base = values[reference] if reference is not None and reference != variant else {}
            differences = [value - base[seed] for seed, value in own.items() if seed in base]
            paired = t_interval(differences, confidence)
            sign = -1 if metric in lower_is_better else 1
            wins = sum(sign * d > 0 for d in differences)
            row = Row(
                variant,
                metric,
                len(own),
                summary.mean,
                summary.low,
                summary.high,
                paired.mean,
                paired.low,
                paired.high,
                wins,
                len(differences),
            )
            rows.append(row)
    return rows


def gain_over_best(
    cells: Cells, metric: str, variant: str, over: Sequence[str], *, lower_is_better: bool = False, confidence: float = 0.95
) -> Interval:
    """How much a variant gains over the best of others; without others, its metric itself.

    Within each seed in which all of them finished, the best of the others in that seed is subtracted; picking the best anew in
    each seed favours the others.

    Args:
        cells: The finished runs' metrics.
        metric: What is compared.
        variant: The variant that gains.
        over: The others; none: the metric is a gain already, and is taken as it is.
        lower_is_better: Whether a smaller value wins; the gain is then how much smaller it is.
        confidence: Probability of the interval.

    Returns:
        Mean gain over seeds with its t-interval; NaN without a complete seed.
    """
    sign = -1.0 if lower_is_better else 1.0
    gains = []
    for seed in sorted({seed for name, seed in cells if name == variant}):
        found = [cells.get((name, seed), {}).get(metric) for name in (variant, *over)]
        values = [sign * value for value in found if value is not None]
        if len(values) == len(found):
            gains.append(values[0] - max(values[1:]) if over else sign * values[0])
    return t_interval(gains, confidence)


def to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table, one column per field of `Row`."""
    return pd.DataFrame([vars(row) for row in rows], columns=[f.name for f in fields(Row)])


def cells_frame(cells: Cells) -> pd.DataFrame:
    """Every single value: columns variant, seed, metric, value."""
    values = [(variant, seed, metric, value) for (variant, seed), metrics in cells.items() for metric, value in metrics.items()]
    return pd.DataFrame(values, columns=["variant", "seed", "metric", "value"])


def draw(path: Path, rows: Sequence[Row], cells: Cells, *, reference: str | None, confidence: float) -> None:
    """Draw one metric as dots (seeds), means and intervals; beside it the paired differences to the reference.

    Args:
        path: The PNG to write.
        rows: The rows of one metric.
        cells: The finished runs' metrics.
        reference: The variant that the others are held against, or None.
        confidence: Probability of the intervals, for the axis label.
    """
    from matplotlib.figure import Figure

    metric = rows[0].metric
    columns = 1 if reference is None else 2
    figure = Figure(figsize=(4.6 * columns + 1.2, 0.45 * len(rows) + 1.3), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, columns, sharey=True))
    for y, row in enumerate(rows):
        seeds = [m[metric] for (name, _), m in cells.items() if name == row.variant and metric in m]
        axes[0].plot(seeds, [y] * len(seeds), "o", color="#9db8dc", markersize=5, zorder=1)
        _interval(axes[0], y, row.mean, row.low, row.high)
        if reference is not None and row.variant != reference:
            _interval(axes[1], y, row.difference, row.difference_low, row.difference_high)
    axes[0].set_yticks(range(len(rows)), [row.variant for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_xlabel(f"{metric} (mean, {confidence:.0%} interval, single seeds)", fontsize=9)
    if reference is not None:
        axes[1].axvline(0, color="#888888", linewidth=1, linestyle="--")
        axes[1].set_xlabel(f"paired difference to {reference}", fontsize=9)
    for axis in axes:
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False, labelsize=9)
    figure.savefig(path, dpi=150)


def _interval(axis: Axes, y: int, mean: float, low: float, high: float) -> None:
    if not math.isnan(low):
        axis.plot([low, high], [y, y], color="#1f4e9c", linewidth=2.2, zorder=2)
    axis.plot([mean], [y], "D", color="#1f4e9c", markersize=6, zorder=3)
