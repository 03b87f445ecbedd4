"""Pictures for a ranker's report, as PNG files. No window system and no global Matplotlib state is touched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adray.bootstrap import Interval
from adray.errors import DataError
from adray.ranking.metrics import CalibrationTable
from adray.ranking.pair_accuracy import PairAccuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (2008), told apart under the common colour blindnesses; black and yellow left out.
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
_CYCLE = (_BLUE, _RED, _GREEN, _ORANGE, _PURPLE, _SKY)
_GREY = "#666666"


def calibration_curve(table: CalibrationTable, path: str | Path, title: str = "Are the click probabilities right?") -> Path:
    """Observed against predicted click rate, one dot per bin with its 95 % Wilson interval.

    Args:
        table: The calibration table.
        path: The PNG to write.
        title: Title of the picture.
    """
    figure, axes = _axes(title, "predicted click rate (%)", "observed click rate (%)", size=(5.6, 5.2))
    x, y = 100 * table.predicted, 100 * table.observed
    # The Wilson centre is pulled towards 1/2, so with no clicks at all the rate can lie a rounding error outside.
    errors = np.maximum(100 * np.stack([table.observed - table.low, table.high - table.observed]), 0)
    top = 1.08 * float(max(x.max(initial=0.0), (100 * table.high).max(initial=0.0), 1e-6))
    axes.plot([0, top], [0, top], color=_GREY, linestyle="--", linewidth=1, label="perfect calibration")
    axes.errorbar(x, y, yerr=errors, fmt="o", color=_BLUE, capsize=3, label=f"{table.rows.size} bins, 95 % interval")
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.text(
        0.97, 0.03, f"{table.rows.sum():,} rows\nmean error {100 * table.expected_error:.2f} points", transform=axes.transAxes, ha="right"
    )
    axes.legend(frameon=False, loc="upper left")
    return _save(figure, path)


def pair_accuracy_bars(
    bins: Sequence[PairAccuracy], edges: Sequence[float], path: str | Path, title: str = "Which of two candidates wins more clicks?"
) -> Path:
    """Pair accuracy by how clearly the two click rates differ.

    Args:
        bins: One accuracy per bin of |z|.
        edges: The bins' edges, one more than bins.
        path: The PNG to write.
        title: Title of the picture.
    """
    labels = [f"{low:g}\u2013{high:g}" if np.isfinite(high) else f"> {low:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    figure, axes = _axes(title, "difference of the two click rates, |z| of the two-proportion test", "pairs ordered rightly (%)")
    for x, found in enumerate(bins):
        if found.pairs:
            _dot(axes, x, found.value, scale=100, colour=_BLUE)
        axes.annotate(f"{found.pairs:,.0f} pairs", (x, 0.02), xycoords=("data", "axes fraction"), ha="center", color=_GREY, fontsize=8)
    axes.axhline(50, color=_GREY, linestyle="--", linewidth=1)
    axes.annotate("coin toss", (0.995, 50), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=_GREY, fontsize=8)
    ends = [100 * end for found in bins if found.pairs for end in (found.value.low, found.value.high)]
    axes.set_ylim(min(40.0, *ends, 100.0) - 6, min(max(60.0, *ends, 0.0) + 5, 102))
    axes.set_xlim(-0.5, len(bins) - 0.5)
    axes.set_xticks(range(len(bins)), labels)
    return _save(figure, path)


def policy_values(values: Mapping[str, Interval], path: str | Path, title: str = "What each policy is worth") -> Path:
    """True click rate of each policy as bars with intervals.

    Args:
        values: Click rates by display name; `model` is set off by its colour.
        path: The PNG to write.
        title: Title of the picture.
    """
    figure, axes = _axes(title, "", "true click rate (%)", size=(6.8, 4.4))
    for x, (name, interval) in enumerate(values.items()):
        value = 100 * interval.value
        error = np.maximum([[value - 100 * interval.low], [100 * interval.high - value]], 0)
        axes.bar(x, value, width=0.62, color=_BLUE if name == "model" else "#BFC7CE", yerr=error, capsize=4, ecolor="#333333")
        axes.annotate(f"{value:.2f} %", (x, 100 * interval.high), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(values)), list(values))
    axes.margins(y=0.12)
    return _save(figure, path)


def objective_comparison(
    rows: Mapping[str, Interval],
    path: str | Path,
    *,
    label: str,
    title: str = "Which training objective orders best?",
    reference: tuple[str, float] | None = None,
    points: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """Dot-and-interval comparison, best on top.

    Args:
        rows: One interval per variant.
        path: The PNG to write.
        label: The axis label with its unit, e.g. `share of the oracle's uplift (0 to 1)`.
        title: Title of the picture.
        reference: Name and value of a vertical line to compare with.
        points: Single runs (seeds) of each variant, drawn as small open dots.
    """
    order = sorted(rows, key=lambda name: rows[name].value)
    figure, axes = _axes(title, label, "", size=(7.2, 1.7 + 0.45 * len(order)), grid="x")
    for y, name in enumerate(order):
        interval = rows[name]
        axes.plot([interval.low, interval.high], [y, y], color=_BLUE, linewidth=2, solid_capstyle="round")
        axes.plot(interval.value, y, "o", color=_BLUE, markersize=7)
        single = (points or {}).get(name, ())
        axes.plot(single, [y + 0.2] * len(single), "o", color=_RED, markersize=4, fillstyle="none")
        axes.annotate(f"{interval.value:.3f}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    if reference:
        axes.axvline(reference[1], color=_GREY, linestyle="--", linewidth=1)
        axes.annotate(
            reference[0], (reference[1], 1.0), xycoords=("data", "axes fraction"), xytext=(3, -10), textcoords="offset points", color=_GREY
        )
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.3)
    return _save(figure, path)


def learning_curves(metrics_file: str | Path, names: Sequence[str], path: str | Path, title: str = "Learning curves") -> Path:
    """Logged metrics against the optimizer step, one panel per metric.

    Args:
        metrics_file: A run's `metrics.jsonl`: one JSON object per line with `step` and metrics by name.
        names: Metrics to draw; those that were never logged are left out.
        path: The PNG to write.
        title: Title of the picture.

    Raises:
        DataError: If the file cannot be read or holds none of the metrics.
    """
    curves = _read_curves(Path(metrics_file), names)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 0.6 + 2.1 * len(curves)), layout="constrained")
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, (steps, values)), colour in zip(panels, curves.items(), _repeat(_CYCLE), strict=False):
        _tidy(axes, "y")
        smooth = _smoothed(values)
        axes.plot(
            steps, values, color=colour, linewidth=1, alpha=0.3 if smooth is not None else 1.0, marker="." if values.size < 30 else None
        )
        if smooth is not None:
            axes.plot(steps, smooth, color=colour, linewidth=1.8)
        axes.set_ylabel(name)
    panels[-1].set_xlabel("optimizer step")
    return _save(figure, path)


def _read_curves(file: Path, names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    try:
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"metrics file {file} cannot be read: {error}", "name the metrics.jsonl of a run") from None
    curves = {}
    for name in names:
        points = [(r["step"], r[name]) for r in records if "step" in r and isinstance(r.get(name), int | float)]
        if points:
            curves[name] = (np.array([p[0] for p in points]), np.array([p[1] for p in points], dtype=np.float64))
    if not curves:
        raise DataError(f"metrics file {file} has none of {', '.join(names)}", "check the names against its lines")
    return curves


def _smoothed(values: np.ndarray) -> np.ndarray | None:
    """Centred moving mean over about a thirtieth of a long curve, which unlike a running mean does not lag; None for short ones."""
    if values.size < 60:
        return None
    window = np.ones(2 * (values.size // 60) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(values.size), window, "same")


def _repeat(colours: Sequence[str]) -> Sequence[str]:
    return [*colours] * 8


def _dot(axes: Axes, x: float, interval: Interval, *, scale: float, colour: str) -> None:
    axes.plot([x, x], [scale * interval.low, scale * interval.high], color=colour, linewidth=2, solid_capstyle="round")
    axes.plot(x, scale * interval.value, "o", color=colour, markersize=7)
    axes.annotate(f"{scale * interval.value:.1f}", (x, scale * interval.value), xytext=(8, -3), textcoords="offset points", fontsize=9)


def _axes(title: str, x: str, y: str, *, size: tuple[float, float] = (6.8, 4.2), grid: str = "y") -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    axes.set(xlabel=x, ylabel=y)
    _tidy(axes, grid)
    return figure, axes


def _tidy(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x" if grid == "x" else "y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
