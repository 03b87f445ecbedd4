from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adray.simulation.catalogue import LATE, UNLOGGED, WARM, Creatives
from adray.simulation.config import PolicyConfig
from adray.simulation.policy import creative_scores, greedy_policy

CREATIVES = Creatives(
    sku=np.array([0, 0, 0, 1, 1]),
    elements=np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 1]]),
    entry=np.array([WARM, WARM, UNLOGGED, WARM, LATE], dtype=np.int8),
    offsets=np.array([0, 3, 5]),
)


def test_propensities_are_epsilon_greedy_over_what_is_on_offer() -> None:
    scores = np.array([0.1, 0.5, 0.9, 0.3, 0.8])
    flat, offsets = greedy_policy(0.3, CREATIVES, scores, UNLOGGED).propensities(np.array([1, 0]))
    np.testing.assert_array_equal(offsets, [0, 2, 5])
    np.testing.assert_allclose(flat, [0.15, 0.85, 0.1, 0.1, 0.8])
    flat, offsets = greedy_policy(0.3, CREATIVES, scores, LATE).propensities(np.array([0, 1]))
    np.testing.assert_array_equal(offsets, [0, 2, 4])
    np.testing.assert_allclose(flat, [0.15, 0.85, 0.15, 0.85])
    flat, offsets = greedy_policy(0.3, CREATIVES, scores, WARM).propensities(np.array([0, 1]))
    np.testing.assert_array_equal(offsets, [0, 2, 3])
    np.testing.assert_allclose(flat, [0.15, 0.85, 1.0])


def test_ties_go_to_the_first() -> None:
    policy = greedy_policy(0.5, CREATIVES, np.array([0.2, 0.7, 0.7, 0.1, 0.1]))
    np.testing.assert_array_equal(policy.greedy, [1, 0])


@pytest.mark.parametrize("epsilon", [0.2, 1.0])
def test_choices_follow_the_propensities(epsilon: float) -> None:
    policy = greedy_policy(epsilon, CREATIVES, np.array([0.1, 0.5, 0.9, 0.3, 0.8]))
    rng, n = np.random.default_rng(6), 30_000
    chosen = policy.choose(np.zeros(n, np.int64), rng.random(n), rng.random(n))
    expected, _ = policy.propensities(np.array([0]))
    assert stats.chisquare(np.bincount(chosen, minlength=3), n * expected).pvalue > 0.001


def test_creative_ctr_is_smoothed_towards_its_sku() -> None:
    exposures, clicks = np.array([10.0, 0.0, 0.0, 20.0, 0.0]), np.array([4.0, 0.0, 0.0, 1.0, 0.0])
    scores = creative_scores(PolicyConfig(model="creative_ctr", smoothing=10.0), CREATIVES, exposures, clicks)
    overall = 6.0 / 32.0
    first = (4.0 + 10.0 * overall) / 20.0
    second = (1.0 + 10.0 * overall) / 30.0
    expected = [(4.0 + 10.0 * first) / 20.0, first, first, (1.0 + 10.0 * second) / 30.0, second]
    np.testing.assert_allclose(scores, expected)


def test_element_ctr_adds_log_rates_of_elements() -> None:
    exposures, clicks = np.array([10.0, 0.0, 30.0, 0.0, 0.0]), np.array([4.0, 0.0, 1.0, 0.0, 0.0])
    scores = creative_scores(PolicyConfig(model="element_ctr", smoothing=5.0), CREATIVES, exposures, clicks)
    overall = 6.0 / 42.0
    good, bad = (4.0 + 5.0 * overall) / 15.0, (1.0 + 5.0 * overall) / 35.0
    expected = np.log([good * good, good * bad, bad * bad, bad * good, good * bad])
    np.testing.assert_allclose(scores, expected)
