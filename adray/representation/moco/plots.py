"""The curve of a MoCo run's report: loss between chance and floor, and kNN accuracy, over epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#666666"
ACCURACY = "representation/knn_accuracy"


def read_rows(metrics_file: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`."""
    return [json.loads(line) for line in metrics_file.read_text(encoding="utf-8").splitlines() if line.strip()]


def accuracy_over_epochs(rows: list[dict[str, Any]], steps_per_epoch: int) -> list[tuple[float, float]]:
    """(epoch, kNN accuracy) of each evaluation; rows written twice by a resumed run count once."""
    found = {row["step"]: row[ACCURACY] for row in rows if row.get(ACCURACY) is not None}
    return [(step / steps_per_epoch, value) for step, value in sorted(found.items())]


def learning_curve(metrics_file: Path, path: Path, *, steps_per_epoch: int, before: float | None, baseline: str) -> Path:
    """Draw the run's curve.

    Args:
        metrics_file: The run's `metrics.jsonl`.
        path: The PNG to write.
        steps_per_epoch: Optimizer steps of an epoch.
        before: kNN accuracy before training, as a fraction; None when nothing was judged.
        baseline: What `before` is, in words.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure

    rows = read_rows(metrics_file)
    losses = {row["step"]: row for row in rows if row.get("train/loss") is not None}
    points = accuracy_over_epochs(rows, steps_per_epoch)
    if before is not None:
        points = [(0.0, before), *points]
    figure = Figure(figsize=(7.0, 5.6 if points else 3.2), layout="constrained")
    figure.suptitle("Learning without labels", fontsize=13, x=0.01, ha="left")
    panels = figure.subplots(2 if points else 1, 1, sharex=True, squeeze=False)[:, 0]
    epochs = [step / steps_per_epoch for step in losses]
    panels[-1].plot(epochs, [row["train/loss"] for row in losses.values()], color=_RED, linewidth=1.5)
    for name in ("loss_chance", "loss_floor"):
        values = [row.get(f"train/{name}") for row in losses.values()]
        if values and values[-1] is not None:
            panels[-1].axhline(values[-1], color=_GREY, linestyle="--", linewidth=1)
            panels[-1].annotate(name.removeprefix("loss_"), (0.99, values[-1]), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    panels[-1].set(xlabel="epoch", ylabel="loss")
    if points:
        panels[0].plot(*zip(*[(e, 100 * a) for e, a in points], strict=True), color=_BLUE, marker="o", markersize=4)
        panels[0].set_ylabel("kNN accuracy (%)")
        panels[0].axhline(100 * points[0][1], color=_GREY, linestyle="--", linewidth=1)
        panels[0].annotate(baseline, (0.99, 100 * points[0][1]), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=_GREY)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
