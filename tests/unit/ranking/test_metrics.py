"""Pointwise metrics against quadratic counts, hand calculation and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from adray.errors import DataError
from adray.ranking import metrics

_ROW = st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 3))
"""Label, coarse score (so that ties are common) and group."""


def _auc_by_counting(labels: list[int], scores: list[float], weights: list[float] | None = None) -> float:
    weights = weights or [1.0] * len(labels)
    won = pairs = 0.0
    for y, s, w in zip(labels, scores, weights, strict=True):
        for other_y, other_s, other_w in zip(labels, scores, weights, strict=True):
            if y == 1 and other_y == 0:
                pairs += w * other_w
                won += w * other_w * (1.0 if s > other_s else 0.5 if s == other_s else 0.0)
    return won / pairs if pairs else float("nan")


@given(st.lists(_ROW, min_size=1, max_size=40))
def test_auc_equals_counting_all_pairs(rows: list[tuple[int, int, int]]) -> None:
    labels, scores, weights = [list(column) for column in zip(*rows, strict=True)]
    assert metrics.auc(labels, scores) == pytest.approx(_auc_by_counting(labels, scores), nan_ok=True)
    weighted = metrics.auc(labels, scores, np.asarray(weights, float))
    assert weighted == pytest.approx(_auc_by_counting(labels, scores, weights), nan_ok=True)


@given(st.lists(_ROW, min_size=1, max_size=40), st.randoms())
def test_auc_ignores_row_order_and_monotone_scales(rows: list[tuple[int, int, int]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    labels, scores, _ = zip(*rows, strict=True)
    again, moved, _ = zip(*shuffled, strict=True)
    assert metrics.auc(labels, scores) == pytest.approx(metrics.auc(again, np.exp(np.asarray(moved)) + 5), nan_ok=True)


def test_auc_of_two_shifted_normals_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40_000)
    scores = rng.normal(size=80_000) + labels
    # P(X + 1 > Y) for independent standard normals.
    assert metrics.auc(labels, scores) == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.005)


@given(st.lists(_ROW, min_size=1, max_size=60))
def test_gauc_equals_the_weighted_mean_of_group_aucs(rows: list[tuple[int, int, int]]) -> None:
    labels, scores, groups = (np.asarray(column) for column in zip(*rows, strict=True))
    total = weight = used = 0.0
    for group in set(groups.tolist()):
        inside = groups == group
        value = _auc_by_counting(labels[inside].tolist(), scores[inside].tolist())
        if np.isfinite(value):
            total, weight, used = total + inside.sum() * value, weight + inside.sum(), used + 1
    found = metrics.gauc(labels, scores, groups, resamples=5)
    assert found.value.value == pytest.approx(total / weight if weight else float("nan"), nan_ok=True)
    assert found.groups_used == used
    assert found.share_left_out == pytest.approx(1 - weight / len(rows))


def test_gauc_does_not_reward_knowing_which_users_click() -> None:
    groups = np.repeat(np.arange(50), 20)
    labels = (np.arange(1000) % 20 < groups % 10 + 1).astype(int)
    by_user = groups % 10
    assert metrics.auc(labels, by_user) > 0.6
    assert metrics.gauc(labels, by_user, groups).value.value == 0.5


def test_auc_interval_draws_whole_groups() -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 400), rng.normal(size=400)
    users = np.arange(400) // 40
    by_user = metrics.auc_interval(labels, scores, users, seed=3)
    assert by_user == metrics.auc_interval(labels, scores, users, seed=3)
    assert by_user.value == metrics.auc(labels, scores)
    assert by_user.low < by_user.value < by_user.high
    assert by_user.groups == 10
    # Each user's rows repeated tenfold bring no new information, and must not narrow the interval.
    tenfold = metrics.auc_interval(np.repeat(labels, 10), np.repeat(scores, 10), np.repeat(users, 10), seed=3)
    assert (tenfold.low, tenfold.high) == pytest.approx((by_user.low, by_user.high))


def test_log_loss_and_pcoc_by_hand() -> None:
    assert metrics.log_loss([1, 0], [0.8, 0.4]) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert metrics.log_loss([1, 0], [1.0, 0.0]) == pytest.approx(1e-7, rel=1e-3)
    assert metrics.log_loss([0], [1.0]) == pytest.approx(-np.log(1e-7))
    assert metrics.pcoc([1, 0, 1, 0], [0.6, 0.2, 0.9, 0.3]) == pytest.approx(1.0)
    assert metrics.pcoc([1, 0, 0, 0], [0.5] * 4) == pytest.approx(2.0)
    assert np.isnan(metrics.pcoc([0, 0], [0.1, 0.1]))


def test_metrics_of_nothing_are_undefined_not_zero() -> None:
    assert np.isnan(metrics.auc([], []))
    assert np.isnan(metrics.auc([1, 1], [0.1, 0.2]))
    assert np.isnan(metrics.log_loss([], []))
    assert np.isnan(metrics.gauc([], [], []).value.value)
    assert metrics.calibration_table([], []).rows.size == 0


def test_calibration_table_bins_by_mass_and_keeps_ties_together() -> None:
    probabilities = np.repeat([0.1, 0.2, 0.6], [50, 30, 20])
    labels = np.concatenate([np.arange(50) < 5, np.arange(30) < 9, np.arange(20) < 12]).astype(int)
    table = metrics.calibration_table(labels, probabilities, bins=10)
    assert table.predicted == pytest.approx([0.1, 0.2, 0.6])
    assert table.observed == pytest.approx([0.1, 0.3, 0.6])
    assert table.rows.tolist() == [50, 30, 20]
    assert table.expected_error == pytest.approx(0.03)


def test_calibration_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        p = rng.beta(1, 30, 4000)
        table = metrics.calibration_table(rng.random(p.size) < p, p)
        assert table.rows.sum() == p.size
        assert table.rows.max() <= table.rows.min() + 1
        assert np.all(np.diff(table.predicted) > 0)
        covered.append((table.low <= table.predicted) & (table.predicted <= table.high))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


def test_wilson_interval_is_the_published_example() -> None:
    # Newcombe (1998), table I, Wilson's method without continuity correction: 81 of 263, 1 of 29, 0 of 20.
    low, high = metrics.wilson_interval(np.array([81 / 263, 1 / 29, 0.0]), np.array([263, 29, 20]))
    assert low == pytest.approx([0.2553, 0.0061, 0.0], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1718, 0.1611], abs=5e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused_with_their_row(bad: float) -> None:
    with pytest.raises(DataError, match=r"score is (nan|inf) at row 1 \(1 of 3"):
        metrics.auc([0, 1, 0], [0.1, bad, 0.3])
