"""Pair accuracy against scipy's test, loops over pairs and hand calculation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from adray.errors import DataError
from adray.ranking import pair_accuracy as pa


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_all_pairs_of_each_list_once(lengths: list[int]) -> None:
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    first, second = pa.list_pairs(offsets)
    expected = {pair for a, b in itertools.pairwise(offsets.tolist()) for pair in itertools.combinations(range(a, b), 2)}
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(expected)


@given(st.integers(0, 40), st.integers(1, 60), st.integers(0, 40), st.integers(1, 60))
def test_z_squared_is_the_chi_square_of_the_two_by_two_table(k1: int, more1: int, k2: int, more2: int) -> None:
    n1, n2 = k1 + more1, k2 + more2
    z = pa.two_proportion_z((np.array([k1]), np.array([k2])), (np.array([n1]), np.array([n2])))[0]
    if k1 + k2 == 0:
        assert z == 0
        return
    assert z**2 == pytest.approx(chi2_contingency([[k1, n1 - k1], [k2, n2 - k2]], correction=False).statistic, abs=1e-9)
    assert np.sign(z) == np.sign(k1 / n1 - k2 / n2)


def test_accuracy_by_hand() -> None:
    # List 0: rates 10 %, 5 %, 5 % of 1,000 (|z| 4.24 twice, 0 once). List 1: 20 % against 19 % (|z| 0.56). List 2: a single candidate.
    impressions, clicks = [1000, 1000, 1000, 1000, 1000, 10], [100, 50, 50, 200, 190, 1]
    judged = pa.judge_pairs([0.3, 0.1, 0.3, 0.1, 0.9, 0.5], [0, 3, 5, 6], impressions, clicks)
    found = pa.pair_accuracy(judged)
    assert (found.value.value, found.pairs, found.lists) == (0.75, 2, 1)
    loose = pa.pair_accuracy(judged, threshold=0.0)
    assert (loose.value.value, loose.pairs, loose.lists) == (pytest.approx((1 + 0.5 + 0) / 3), 3, 2)
    assert found.metrics("upworthy/pair_accuracy")["upworthy/pair_accuracy_pairs"] == 2
    assert sorted(judged.z) == pytest.approx([0.5644, 4.2448, 4.2448], abs=1e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_accuracy_equals_a_loop_and_mirrors_when_scores_are_negated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, 12)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    shown = rng.integers(0, 200, offsets[-1])
    clicks = rng.binomial(shown, 0.2)
    scores = rng.integers(0, 3, offsets[-1]).astype(float)
    right = pairs = 0.0
    for a, b in itertools.pairwise(offsets.tolist()):
        for i, j in itertools.combinations(range(a, b), 2):
            if not shown[i] or not shown[j] or clicks[i] * shown[j] == clicks[j] * shown[i]:
                continue
            pooled = (clicks[i] + clicks[j]) / (shown[i] + shown[j])
            z = (clicks[i] / shown[i] - clicks[j] / shown[j]) / (pooled * (1 - pooled) * (1 / shown[i] + 1 / shown[j])) ** 0.5
            if abs(z) > 1:
                pairs += 1
                right += 0.5 if scores[i] == scores[j] else float((scores[i] > scores[j]) == (z > 0))
    found = pa.pair_accuracy(pa.judge_pairs(scores, offsets, shown, clicks), threshold=1.0, resamples=5)
    assert found.pairs == pairs
    assert found.value.value == pytest.approx(right / pairs if pairs else float("nan"), nan_ok=True)
    mirrored = pa.pair_accuracy(pa.judge_pairs(-scores, offsets, shown, clicks), threshold=1.0, resamples=5)
    assert mirrored.value.value == pytest.approx(1 - found.value.value, nan_ok=True)


def test_bins_by_z_share_out_all_judged_pairs() -> None:
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 4001, 4)
    rate = rng.beta(2, 50, 4000)
    shown = rng.integers(500, 3000, 4000)
    judged = pa.judge_pairs(rate, offsets, shown, rng.binomial(shown, rate))
    bins = pa.pair_accuracy_by_z(judged, [0, 1, 1.96, 2.58, float("inf")], resamples=20)
    assert sum(b.pairs for b in bins) == judged.z.size
    # Chance reverses close pairs and not clear ones, so true rates are right more often the clearer the difference.
    values = [b.value.value for b in bins]
    assert values == sorted(values)
    assert values[-1] > 0.99


def test_more_clicks_than_impressions_are_refused() -> None:
    with pytest.raises(DataError, match="candidate row 1 has 11 clicks in 10 impressions"):
        pa.judge_pairs([0, 1], [0, 2], [10, 10], [1, 11])


def test_clicked_pairs_by_hand() -> None:
    scores = [3, 1, 2, 5, 5, 0, 9]
    # List 0 clicked on candidate 2 (beats one of two), list 1 clicked and tied, list 2 not clicked, list 3 aggregated.
    found = pa.clicked_pair_accuracy(scores, [0, 3, 5, 6, 7], [2, 0, 0, -1], [1, 1, 0, np.nan])
    assert (found.value.value, found.pairs, found.lists) == (pytest.approx((1 + 0 + 0.5) / 3), 3, 2)
    weighted = pa.clicked_pair_accuracy(scores, [0, 3, 5, 6, 7], [2, 0, 0, -1], [1, 1, 0, np.nan], [0.3, 0.2, 0.5, 0.25, 0.75, 1, np.nan])
    assert weighted.value.value == pytest.approx((2 * 1 + 2 * 0 + 4 * 0.5) / (2 * 2 + 4))


def test_inverse_propensities_undo_the_logging_policy() -> None:
    rng = np.random.default_rng(6)
    n, k = 60_000, 3
    propensity = np.array([0.7, 0.2, 0.1])
    rate = np.array([0.10, 0.10, 0.20])
    exposed = rng.choice(k, n, p=propensity)
    clicked = rng.random(n) < rate[exposed]
    offsets, good, imitator = np.arange(0, n * k + 1, k), np.tile(rate, n), np.tile(propensity, n)
    logged = np.tile(propensity, n)
    assert pa.clicked_pair_accuracy(imitator, offsets, exposed, clicked, resamples=5).value.value > 0.7
    fair_imitator = pa.clicked_pair_accuracy(imitator, offsets, exposed, clicked, logged, resamples=5)
    fair_good = pa.clicked_pair_accuracy(good, offsets, exposed, clicked, logged, resamples=5)
    # Were each candidate shown once: clicks .1 .1 .2; the imitator wins 1, .5, 0 of each one's pairs; the true rates .25, .25, 1.
    assert fair_imitator.value.value == pytest.approx((0.1 * 1 + 0.1 * 0.5 + 0.2 * 0) / 0.4, abs=0.02)
    assert fair_good.value.value == pytest.approx((0.1 * 0.25 + 0.1 * 0.25 + 0.2 * 1) / 0.4, abs=0.02)
    with pytest.raises(DataError, match=r"propensity of the clicked candidate of list 0 is 0\.0"):
        pa.clicked_pair_accuracy([1, 0], [0, 2], [0], [1], [0.0, 1.0])
