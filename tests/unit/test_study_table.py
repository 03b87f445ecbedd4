"""The statistics of a study, held against hand calculation and SciPy's own paired test."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from adray.study_curves import curve_points, draw_curves
from adray.study_table import cells_frame, compare, draw, gain_over_best, t_interval, to_frame


def test_t_interval_by_hand():
    # 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.30265, half width 4.30265 / sqrt(3).
    interval = t_interval([1.0, 2.0, 3.0], 0.95)
    assert interval.mean == 2
    assert interval.high - 2 == pytest.approx(2.484138, abs=1e-5)
    assert 2 - interval.low == pytest.approx(2.484138, abs=1e-5)


def test_t_interval_of_few_values():
    one = t_interval([5.0], 0.95)
    assert one.mean == 5 and math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(t_interval([], 0.95).mean)


def test_t_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [(i := t_interval(list(rng.normal(3, 2, size=4)), 0.8)).low <= 3 <= i.high for _ in range(2000)]
    # Binomial standard deviation of the share is 0.009.
    assert np.mean(hits) == pytest.approx(0.8, abs=0.03)


@pytest.fixture
def cells():
    """Seeds differ by 10, variant b adds 1, 2 and -1 to a: only the paired view can see it."""
    values = {"a": [0.0, 10.0, 20.0], "b": [1.0, 12.0, 19.0]}
    return {(name, seed): {"m": v, "loss": -v} for name, row in values.items() for seed, v in enumerate(row)}


def test_differences_are_paired_within_a_seed(cells):
    a, b = compare(cells, ["a", "b"], ["m"], reference="a", confidence=0.9)
    expected = stats.ttest_rel([1, 12, 19], [0, 10, 20]).confidence_interval(0.9)
    assert (b.difference, b.difference_low, b.difference_high) == pytest.approx((2 / 3, expected.low, expected.high))
    assert b.difference_high - b.difference_low < (b.high - b.low) / 3
    assert (b.wins, b.pairs, b.seeds) == (2, 3, 3)
    assert (a.wins, a.pairs) == (0, 0) and math.isnan(a.difference)


def test_a_line_joins_what_finished_in_its_own_order(cells, tmp_path):
    rows = compare(cells, ["a", "b", "lost"], ["m", "loss"], reference=None)
    points = curve_points(rows, "loss", "m", ["lost", "b", "a"])
    assert [(name, x.mean, y.mean) for name, x, y in points] == [("b", -32 / 3, 32 / 3), ("a", -10, 10)]
    draw_curves(tmp_path / "one.png", rows, "loss", "m", {"both": ["b", "a"]})
    draw_curves(tmp_path / "none.png", rows, "loss", "m", {"lost": ["lost"]})
    assert (tmp_path / "one.png").stat().st_size > (tmp_path / "none.png").stat().st_size > 1000


def test_wins_follow_the_direction(cells):
    rows = compare(cells, ["a", "b"], ["m", "loss"], reference="a", lower_is_better=["loss"])
    assert [(r.metric, r.variant, r.wins) for r in rows] == [("m", "a", 0), ("m", "b", 2), ("loss", "a", 0), ("loss", "b", 2)]


def test_a_tie_is_no_win(cells):
    cells["b", 0] = cells["a", 0]
    assert compare(cells, ["b"], ["m"], reference=None)[0].pairs == 0
    assert compare(cells, ["a", "b"], ["m"], reference="a")[1].wins == 1


def test_missing_runs_are_left_out_of_the_pairs(cells):
    del cells["a", 1]
    a, b = compare(cells, ["a", "b"], ["m"], reference="a")
    assert (a.seeds, b.seeds, b.pairs, b.wins) == (2, 3, 2, 1)
    assert a.mean == 10 and b.difference == 0
    row = compare(cells, ["a", "c"], ["m"], reference="a")[1]
    assert row.seeds == 0 and math.isnan(row.mean)


def test_frames(cells):
    frame = to_frame(compare(cells, ["a", "b"], ["m"], reference="a"))
    assert frame.loc[1, "wins"] == 2 and list(frame["variant"]) == ["a", "b"]
    long = cells_frame(cells)
    assert len(long) == 12
    assert long.query("variant == 'b' and metric == 'm'")["value"].tolist() == [1, 12, 19]
    assert list(cells_frame({}).columns) == ["variant", "seed", "metric", "value"]
    assert isinstance(frame, pd.DataFrame)


def test_the_plot_is_a_picture_with_something_on_it(cells, tmp_path):
    from matplotlib.image import imread

    for reference in ("a", None):
        rows = compare(cells, ["a", "b"], ["m"], reference=reference)
        draw(tmp_path / "p.png", rows, cells, reference=reference, confidence=0.95)
        picture = imread(tmp_path / "p.png")
        assert picture.shape[1] > (1000 if reference else 700)
        assert (picture[..., :3].min(axis=2) < 0.7).mean() > 0.005


def test_gain_is_over_the_best_of_the_others_in_each_seed():
    cells = {
        ("new", 0): {"m": 0.9},
        ("new", 1): {"m": 0.8},
        ("new", 2): {"m": 0.7},
        ("a", 0): {"m": 0.5},
        ("a", 1): {"m": 0.7},
        ("b", 0): {"m": 0.6},
        ("b", 1): {"m": 0.4},
        ("a", 2): {"m": 0.1},
    }
    # Seed 2 lacks b. Gains 0.3 and 0.1: mean 0.2, t(0.95, 1 degree) = 6.3138 for 90 %, standard error 0.1.
    gain = gain_over_best(cells, "m", "new", ["a", "b"], confidence=0.9)
    assert gain.mean == pytest.approx(0.2)
    assert gain.high - gain.mean == pytest.approx(0.63138, abs=1e-4)
    assert gain_over_best(cells, "m", "new", ["a", "b"], lower_is_better=True).mean == pytest.approx(-0.4)


def test_a_metric_that_is_a_gain_already_is_taken_as_it_is():
    cells = {("new", 0): {"m": 0.9}, ("new", 1): {"m": 0.7}, ("a", 0): {"m": 5.0}}
    gain = gain_over_best(cells, "m", "new", [], confidence=0.9)
    # Mean 0.8, standard error 0.1, t(0.95, 1 degree) = 6.3138.
    assert gain.mean == pytest.approx(0.8)
    assert gain.low == pytest.approx(0.8 - 0.63138, abs=1e-4)
    assert gain_over_best(cells, "m", "new", [], lower_is_better=True).mean == pytest.approx(0.8)
