"""The plot of one metric of a study against another, along lines of variants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from adray.study_table import Row

_COLOURS = ("#1f4e9c", "#c2571a", "#3c8a3f", "#8a3f86", "#6b6b6b", "#b09000")
_MARKERS = "osD^vP"


def curve_points(rows: Sequence[Row], x: str, y: str, variants: Sequence[str]) -> list[tuple[str, Row, Row]]:
    """The points of a line: variant, its row of `x` and its row of `y`, in the given order; without those that did not finish."""
    found = {(row.variant, row.metric): row for row in rows}
    return [(v, found[v, x], found[v, y]) for v in variants if not math.isnan(found[v, x].mean + found[v, y].mean)]


def draw_curves(path: Path, rows: Sequence[Row], x: str, y: str, lines: Mapping[str, Sequence[str]]) -> None:
    """Draw variants' means with their intervals over seeds, the variants of a line joined in their order.

    Args:
        path: The PNG to write.
        rows: A study's rows; variants of which a metric is missing are left out.
        x: The metric to the right.
        y: The metric upwards.
        lines: Name -> variants.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    for number, (name, variants) in enumerate(lines.items()):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        points = curve_points(rows, x, y, variants)
        axis.plot([a.mean for _, a, _ in points], [b.mean for _, _, b in points], color=colour, marker=marker, label=name, zorder=3)
        for variant, a, b in points:
            axis.plot([a.low, a.high], [b.mean, b.mean], color=colour, alpha=0.3, linewidth=2)
            axis.plot([a.mean, a.mean], [b.low, b.high], color=colour, alpha=0.3, linewidth=2)
            axis.annotate(variant, (a.mean, b.mean), xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour)
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
