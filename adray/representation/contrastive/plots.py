"""The curve of a contrastive run: its loss between what it is at chance and what it is at best."""

from __future__ import annotations

import json
from pathlib import Path

_LINES = (
    ("train/loss", "loss", "#0072B2", "-"),
    ("train/chance_loss", "at chance", "#666666", "--"),
    ("train/floor_loss", "at best", "#666666", ":"),
)


def loss_curve(metrics_file: Path, path: Path) -> Path:
    """Draw loss, chance and floor over optimizer steps.

    Args:
        metrics_file: The run's `metrics.jsonl`.
        path: The PNG to write.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure

    lines = (line for line in metrics_file.read_text(encoding="utf-8").splitlines() if line.strip())
    # A resumed run writes some steps again; the last one counts.
    rows = {row["step"]: row for row in map(json.loads, lines) if row.get("train/loss") is not None}
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, label, colour, style in _LINES:
        steps = [step for step in sorted(rows) if rows[step].get(name) is not None]
        axes.plot(steps, [rows[step][name] for step in steps], style, color=colour, label=label)
    axes.set(xlabel="optimizer step", ylabel="InfoNCE, nats", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
