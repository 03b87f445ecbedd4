"""Bootstrap intervals: coverage, units, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from adray import bootstrap


def test_interval_of_a_mean_is_about_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = bootstrap.ratio_interval(values, np.ones(400), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.06 * half)
    narrower = bootstrap.ratio_interval(values, np.ones(400), resamples=4000, level=0.68)
    assert narrower.high - narrower.low == pytest.approx(2 * half * 0.9945 / 1.96, rel=0.06)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for seed in range(300):
        size = rng.integers(1, 20, 80)
        right = rng.binomial(size, rng.beta(6, 4, 80))
        found = bootstrap.ratio_interval(right, size, resamples=200, seed=seed)
        hits.append(found.low <= 0.6 <= found.high)
    assert 0.90 <= np.mean(hits) <= 0.98


def test_a_group_is_the_unit_that_is_drawn() -> None:
    rng = np.random.default_rng(2)
    by_group = rng.normal(size=50)
    alone = bootstrap.ratio_interval(by_group, np.ones(50))
    # Each group's rows repeated 30 times: the same sums up to scale, so exactly the same interval.
    repeated = bootstrap.ratio_interval(30 * by_group, np.full(50, 30.0))
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))


def test_same_seed_same_interval_even_when_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(size=100)
    whole = bootstrap.ratio_interval(values, np.ones(100), seed=5)
    assert whole == bootstrap.ratio_interval(values, np.ones(100), seed=5)
    assert whole != bootstrap.ratio_interval(values, np.ones(100), seed=6)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 1500)
    assert whole == bootstrap.ratio_interval(values, np.ones(100), seed=5)


def test_weighted_interval_agrees_with_the_sums_of_the_same_draws() -> None:
    values = np.random.default_rng(4).normal(size=60)
    by_sums = bootstrap.ratio_interval(values, np.ones(60), resamples=300, seed=1)
    by_weights = bootstrap.weighted_interval(lambda w: float(w @ values / w.sum()), 60, resamples=300, seed=1)
    assert (by_weights.value, by_weights.low, by_weights.high) == pytest.approx((by_sums.value, by_sums.low, by_sums.high))


def test_paired_difference_cancels_what_both_share() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 5, 300)
    ones = np.ones(300)
    better = shared + 0.2 + rng.normal(0, 0.2, 300)
    paired = bootstrap.difference_interval((better, ones), (shared, ones))
    assert paired.low > 0.1
    assert paired.value == pytest.approx(np.mean(better - shared))
    alone = bootstrap.ratio_interval(better, ones)
    assert alone.high - alone.low > 5 * (paired.high - paired.low)


def test_undefined_figures_are_nan_not_an_error() -> None:
    empty = bootstrap.ratio_interval([], [])
    assert np.isnan([empty.value, empty.low, empty.high]).all()
    assert empty.groups == 0
    nothing = bootstrap.ratio_interval([0.0, 0.0], [0.0, 0.0])
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    # One of two groups has no denominator: draws of that group alone are undefined and left out.
    half = bootstrap.ratio_interval([0.0, 1.0], [0.0, 2.0])
    assert (half.value, half.low, half.high) == (0.5, 0.5, 0.5)
    assert str(half) == "0.5000 [0.5000, 0.5000]"
