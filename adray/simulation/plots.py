"""Pictures of a world for its run's report, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS, _ROWS, _TILE, _GAP = 6, 4, 144, 8
_BLUE, _GREY = "#0072B2", "#666666"


def contact_sheet(creatives: Path, path: Path) -> Path:
    """Creatives spread evenly over the table, side by side.

    Args:
        creatives: A `creatives.parquet` with images.
        path: The PNG to write.
    """
    images = pq.read_table(creatives, columns=["image"]).column("image")
    chosen = np.unique(np.linspace(0, len(images) - 1, _COLUMNS * _ROWS).round().astype(int))
    step = _TILE + _GAP
    sheet = Image.new("RGB", (_COLUMNS * step + _GAP, _ROWS * step + _GAP), "white")
    for place, row in enumerate(chosen.tolist()):
        with Image.open(io.BytesIO(images[row].as_py()["bytes"])) as picture:
            tile = picture.convert("RGB").resize((_TILE, _TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (_GAP + place % _COLUMNS * step, _GAP + place // _COLUMNS * step))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def calibration_plot(bins: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Click rate against true probability, with three standard errors: dots off the diagonal would mean a wrong log.

    Args:
        bins: As in `world.json`'s `calibration`.
        path: The PNG to write.
    """
    expected, observed, rows = (np.array([b[name] for b in bins]) for name in ("expected", "observed", "rows"))
    figure = _figure(5.4, 4.6)
    axes = figure.add_subplot(xlabel="true click probability (%)", ylabel="clicked (%)", title="Clicks follow the truth")
    top = 108.0 * max(expected.max(), observed.max())
    axes.plot([0, top], [0, top], color=_GREY, linestyle="--", linewidth=1)
    error = 3.0 * np.sqrt(expected * (1.0 - expected) / rows)
    axes.errorbar(100 * expected, 100 * observed, yerr=100 * error, fmt="o", color=_BLUE, markersize=4, capsize=2)
    axes.grid(alpha=0.25)
    return _save(figure, path)


def policy_plot(values: Mapping[str, float], path: Path) -> Path:
    """Bars of the policies' true CTR.

    Args:
        values: Policy -> mean true CTR at the first position, worst to best.
        path: The PNG to write.
    """
    figure = _figure(5.8, 3.4)
    axes = figure.add_subplot(xlabel="true CTR at the first position (%)", title="What a choice of creative is worth")
    names = [name.replace("_", " ") for name in values]
    bars = axes.barh(names, [100 * value for value in values.values()], color=_BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # The object interface: no window system, no global state, so it is safe in any thread.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
