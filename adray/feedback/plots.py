"""Pictures for an inspector's report, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adray.data.labels import LABELS


def confusion_plot(table: np.ndarray, path: Path) -> Path:
    """True labels down, predicted labels across; each row's shares are shaded, counts are written.

    Args:
        table: int64 `[5, 5]`, from `metrics.confusion`.
        path: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true", title="Held-out pictures")
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*table.shape):
        axes.text(column, row, str(table[row, column]), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black")
    names = [label.replace("_", "\n") for label in LABELS]
    axes.set_xticks(range(len(LABELS)), names, fontsize=8)
    axes.set_yticks(range(len(LABELS)), names, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
