"""Plots are written as PNG and show the numbers they were given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from adray.bootstrap import Interval
from adray.errors import DataError
from adray.ranking import metrics, pair_accuracy, plots


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, and still saved for real."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs))[1])
    return figures


def _texts(figure: Figure) -> str:
    figure.canvas.draw()
    return " ".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


def _is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_policy_values_draw_each_click_rate_in_percent(tmp_path: Path, drawn: list[Figure]) -> None:
    path = plots.policy_values(
        {"uniform": Interval(0.02, 0.019, 0.021, 9), "model": Interval(0.031, 0.03, 0.033, 9)}, tmp_path / "a" / "p.png"
    )
    assert _is_png(path)
    bars = drawn[0].axes[0].patches
    assert [bar.get_height() for bar in bars] == pytest.approx([2.0, 3.1])
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
    assert "3.10 %" in _texts(drawn[0])
    assert "(%)" in drawn[0].axes[0].get_ylabel()


def test_calibration_curve_draws_bins_and_survives_no_clicks(tmp_path: Path, drawn: list[Figure]) -> None:
    table = metrics.calibration_table([0, 0, 1, 0] * 25, [0.1, 0.2, 0.3, 0.4] * 25, bins=4)
    assert _is_png(plots.calibration_curve(table, tmp_path / "c.png"))
    dots = drawn[0].axes[0].lines[1].get_xydata()
    assert dots == pytest.approx(np.array([[10, 0], [20, 0], [30, 100], [40, 0]]))
    assert _is_png(plots.calibration_curve(metrics.calibration_table([0, 0], [0.1, 0.2]), tmp_path / "d.png"))


def test_pair_accuracy_names_bins_and_pair_counts(tmp_path: Path, drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    shown = np.full(400, 1000)
    judged = pair_accuracy.judge_pairs(rng.random(400), np.arange(0, 401, 4), shown, rng.binomial(shown, 0.1))
    edges = [0, 1, 2.58, 9, float("inf")]
    bins = pair_accuracy.pair_accuracy_by_z(judged, edges, resamples=20)
    assert bins[-1].pairs == 0
    assert _is_png(plots.pair_accuracy_bars(bins, edges, tmp_path / "z.png"))
    text = _texts(drawn[0])
    assert all(label in text for label in ("0\u20131", "> 9", f"{bins[0].pairs:.0f} pairs", "0 pairs", "coin toss"))


def test_objectives_are_sorted_best_on_top(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = {"JRC": Interval(0.6, 0.5, 0.7, 3), "pointwise": Interval(0.5, 0.4, 0.6, 3), "list-wise": Interval(0.7, 0.6, 0.8, 3)}
    path = plots.objective_comparison(
        rows, tmp_path / "o.png", label="share (0 to 1)", reference=("log", 0.55), points={"JRC": [0.55, 0.65]}
    )
    assert _is_png(path)
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pointwise", "JRC", "list-wise"]
    assert axes.get_xlabel() == "share (0 to 1)"


def test_learning_curves_read_what_was_logged(tmp_path: Path, drawn: list[Figure]) -> None:
    lines = [{"step": s, "loss": 1 / (s + 1), "note": "text"} | ({"auc": 0.5 + s / 1000} if s % 20 == 0 else {}) for s in range(100)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    assert _is_png(plots.learning_curves(tmp_path / "metrics.jsonl", ["loss", "auc", "absent"], tmp_path / "l.png"))
    panels = drawn[0].axes
    assert [axes.get_ylabel() for axes in panels] == ["loss", "auc"]
    assert panels[1].lines[0].get_xydata() == pytest.approx(np.array([[s, 0.5 + s / 1000] for s in range(0, 100, 20)]))
    with pytest.raises(DataError, match="has none of nothing"):
        plots.learning_curves(tmp_path / "metrics.jsonl", ["nothing"], tmp_path / "n.png")
