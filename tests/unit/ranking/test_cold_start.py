"""The value on new creatives: hand calculation and limits."""

from __future__ import annotations

import numpy as np
import pytest

from adray.errors import DataError
from adray.ranking.cold_start import cold_value
from adray.ranking.world_value import RequestTruth

# Request 0 offers two new creatives beside an old one, request 1 only one, request 2 three.
TRUTH = RequestTruth(
    offsets=np.array([0, 3, 5, 8]),
    click_probability=np.array([0.9, 0.1, 0.3, 0.5, 0.2, 0.2, 0.6, 0.1]),
    propensity=np.full(8, 0.5),
    skus=np.array([0, 1, 2]),
    creatives=np.arange(8),
)
NEW = np.array([0, 1, 1, 0, 1, 1, 1, 1], bool)


def test_value_by_hand() -> None:
    found = cold_value(TRUTH, [9, 1, 2, 0, 9, 3, 1, 1], NEW)
    assert found is not None
    assert found.policy.value == pytest.approx((0.3 + 0.2) / 2)
    assert found.uniform.value == pytest.approx((0.2 + 0.3) / 2)
    assert found.oracle.value == pytest.approx((0.3 + 0.6) / 2)
    assert found.uplift_share.value == pytest.approx((0.5 - 0.5) / (0.9 - 0.5))
    assert (found.requests, found.creatives) == (2, 5)
    metrics = found.metrics()
    assert metrics["cold_uplift_share"] == found.uplift_share.value
    assert metrics["cold_uplift_share_low"] <= metrics["cold_uplift_share_high"]
    assert metrics["cold_true_ctr_oracle"] == pytest.approx(0.45)
    assert (metrics["cold_requests"], metrics["cold_creatives"]) == (2, 5)


def test_the_oracle_has_share_one_chance_none_and_ties_share() -> None:
    oracle, constant = cold_value(TRUTH, TRUTH.click_probability, NEW), cold_value(TRUTH, np.ones(8), NEW)
    assert oracle is not None and constant is not None
    assert (oracle.uplift_share.value, oracle.uplift_share.low) == pytest.approx((1, 1))
    assert constant.uplift_share.value == pytest.approx(0, abs=1e-12)


def test_the_score_of_old_creatives_does_not_count() -> None:
    scores = np.array([0.0, 2, 1, 0, 0, 1, 3, 2])
    again = scores + np.where(NEW, 0, 100)
    assert cold_value(TRUTH, scores, NEW) == cold_value(TRUTH, again, NEW)


def test_the_interval_is_that_of_the_mean_over_requests() -> None:
    """Standard error of the policy's click rate over requests, against the bootstrap's width."""
    rng = np.random.default_rng(0)
    n = 4000
    p = rng.random((n, 2))
    truth = RequestTruth(np.arange(0, 2 * n + 1, 2), p.ravel(), np.full(2 * n, 0.5), np.arange(n), np.arange(2 * n))
    scores = rng.random((n, 2))
    found = cold_value(truth, scores.ravel(), np.ones(2 * n, bool), resamples=2000)
    assert found is not None
    chosen = p[np.arange(n), scores.argmax(1)]
    assert found.policy.value == pytest.approx(chosen.mean())
    assert found.policy.high - found.policy.low == pytest.approx(2 * 1.96 * chosen.std() / np.sqrt(n), rel=0.08)
    assert found.uplift_share.low < 0 < found.uplift_share.high


def test_nothing_new_is_no_value_and_mismatches_are_refused() -> None:
    assert cold_value(TRUTH, np.zeros(8), np.zeros(8, bool)) is None
    assert cold_value(TRUTH, np.zeros(8), np.arange(8) == 3) is None
    with pytest.raises(DataError, match="7 scores and 8 marks for 8 candidates"):
        cold_value(TRUTH, np.zeros(7), NEW)
