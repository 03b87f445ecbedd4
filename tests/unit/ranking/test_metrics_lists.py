"""Selection metrics: the golden toy case, tie rule, invariances and known truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.errors import DataError
from adray.ranking import list_metrics as lm

# SKU A: 4 requests over (a1, a2), exposed a1 click, a2 no, a1 no, a2 click, chosen a1 a1 a1 a2.
# SKU B: 2 requests over (b1, b2), exposed b1 click, b2 no, chosen b2 b1.
_SCORES = np.array([2, 1, 2, 1, 2, 1, 1, 2, 1, 2, 2, 1], dtype=float)
_OFFSETS = np.arange(0, 13, 2)
_EXPOSED = np.array([0, 1, 0, 1, 0, 1])
_CLICKED = np.array([1, 0, 0, 1, 1, 0])
_ADS = np.array(["A"] * 4 + ["B"] * 2)


def test_golden_toy_case() -> None:
    counts = lm.ad_counts(_SCORES, _OFFSETS, _EXPOSED, _CLICKED, _ADS)
    assert counts.impressions.tolist() == [4, 2]
    assert counts.matched_impressions.tolist() == [3, 0]
    assert counts.matched_clicks.tolist() == [2, 0]
    assert lm.sctr(counts) == pytest.approx(2 / 3)
    assert lm.nsctr(counts) == pytest.approx(0.611111, abs=5e-7)
    assert lm.nsctr(counts, "drop") == pytest.approx(0.666667, abs=5e-7)


def test_report_holds_the_same_figures_and_what_they_rest_on() -> None:
    report = lm.selection_report(lm.ad_counts(_SCORES, _OFFSETS, _EXPOSED, _CLICKED, _ADS))
    assert (report.sctr.value, report.nsctr.value, report.nsctr_drop.value) == pytest.approx((2 / 3, 11 / 18, 2 / 3))
    assert report.match_rate == pytest.approx(0.5)
    assert report.fallback_share == pytest.approx(2 / 6)
    assert report.logged_ctr == pytest.approx(0.5)
    assert (report.ads, report.impressions) == (2, 6)
    # Two ads can be drawn as (A, A), (A, B) or (B, B): NSCTR 2/3, 11/18 or 1/2.
    assert (report.nsctr.low, report.nsctr.high) == pytest.approx((0.5, 2 / 3))
    assert {"sctr", "nsctr_low", "nsctr_drop_high", "match_rate", "ads"} <= report.metrics().keys()


def _random_log(seed: int, lists: int = 30, levels: int = 3) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, lists)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    scores = rng.integers(0, levels, offsets[-1]).astype(float)
    return scores, offsets, rng.integers(0, lengths), rng.integers(0, 2, lists), rng.integers(0, 6, lists)


def _nsctr_by_loop(scores, offsets, exposed, clicked, ads, fallback) -> float:  # noqa: ANN001
    per_ad: dict[int, list[float]] = {}
    for i in range(len(exposed)):
        row = scores[offsets[i] : offsets[i + 1]].tolist()
        tied = [k for k, s in enumerate(row) if s == max(row)]
        match = 1 / len(tied) if exposed[i] in tied else 0.0
        ad = per_ad.setdefault(int(ads[i]), [0.0, 0.0, 0.0, 0.0])
        for k, amount in enumerate((1.0, clicked[i], match, match * clicked[i])):
            ad[k] += amount
    top = bottom = 0.0
    for impressions, clicks, matched, matched_clicks in per_ad.values():
        if matched:
            top, bottom = top + matched_clicks / matched * impressions, bottom + impressions
        elif fallback == "logged":
            top, bottom = top + clicks, bottom + impressions
    return top / bottom


@given(st.integers(0, 10_000), st.sampled_from(["logged", "drop"]))
@settings(max_examples=40)
def test_nsctr_equals_a_loop_over_the_definition(seed: int, fallback: str) -> None:
    log = _random_log(seed)
    assert lm.nsctr(lm.ad_counts(*log), fallback) == pytest.approx(_nsctr_by_loop(*log, fallback))


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_order_of_candidates_and_lists_does_not_matter(seed: int) -> None:
    scores, offsets, exposed, clicked, ads = _random_log(seed, levels=2)
    rng = np.random.default_rng(seed + 1)
    order = rng.permutation(len(exposed))
    moved_scores, moved_exposed = [], []
    for i in order:
        inside = rng.permutation(offsets[i + 1] - offsets[i])
        moved_scores.append(scores[offsets[i] : offsets[i + 1]][inside])
        moved_exposed.append(int(np.flatnonzero(inside == exposed[i])[0]))
    moved_offsets = np.concatenate(([0], np.cumsum(np.diff(offsets)[order])))
    one = lm.ad_counts(scores, offsets, exposed, clicked, ads)
    two = lm.ad_counts(np.concatenate(moved_scores), moved_offsets, moved_exposed, clicked[order], ads[order])
    assert lm.nsctr(one) == pytest.approx(lm.nsctr(two))
    assert lm.sctr(one) == pytest.approx(lm.sctr(two), nan_ok=True)


def test_a_constant_model_is_worth_the_uniform_policy() -> None:
    # The first candidate always clicks and was always shown: taking the first of the tied ones would look perfect.
    counts = lm.ad_counts(np.zeros(8), np.arange(0, 9, 2), [0, 0, 0, 0], [1, 1, 1, 1], [7, 7, 7, 7])
    assert lm.choice_weights(np.zeros(4), [0, 3, 4]).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert counts.matched_impressions.tolist() == [2.0]
    assert lm.selection_report(counts).match_rate == 0.5


def test_nsctr_cannot_be_won_by_matching_more_on_rich_ads() -> None:
    # Ad 0 clicks half the time, ad 1 never; both are shown uniformly, and no candidate is better than the other.
    rng = np.random.default_rng(0)
    ads, exposed = np.repeat([0, 1], 5000), rng.integers(0, 2, 10_000)
    clicked = (ads == 0) * rng.integers(0, 2, 10_000)
    scores = np.zeros((10_000, 2))
    scores[np.arange(10_000), exposed] = np.where(ads == 0, 1.0, np.where(rng.random(10_000) < 0.1, 1.0, -1.0))
    counts = lm.ad_counts(scores.ravel(), np.arange(0, 20_001, 2), exposed, clicked, ads)
    assert lm.sctr(counts) > 0.4
    assert lm.nsctr(counts) == pytest.approx(0.25, abs=0.02)


def test_replay_of_uniform_logs_finds_the_policys_true_click_rate() -> None:
    rng = np.random.default_rng(4)
    n, k = 40_000, 4
    truth = rng.uniform(0.05, 0.5, (n, k))
    exposed = rng.integers(0, k, n)
    clicked = rng.random(n) < truth[np.arange(n), exposed]
    scores = truth + rng.normal(0, 0.1, (n, k))
    report = lm.selection_report(lm.ad_counts(scores.ravel(), np.arange(0, n * k + 1, k), exposed, clicked, rng.integers(0, 400, n)))
    true_value = truth[np.arange(n), scores.argmax(1)].mean()
    assert report.nsctr.low < true_value < report.nsctr.high
    assert report.nsctr.value == pytest.approx(true_value, abs=0.02)
    assert report.match_rate == pytest.approx(1 / k, abs=0.01)


def test_aggregated_lists_are_skipped_and_wrong_indices_refused() -> None:
    counts = lm.ad_counts([1, 0, 1, 0], [0, 2, 4], [-1, 0], [np.nan, 1], ["a", "b"])
    assert counts.impressions.tolist() == [1.0]
    with pytest.raises(DataError, match="exposed index 2 lies outside list 1"):
        lm.ad_counts([1, 0, 1, 0], [0, 2, 4], [0, 2], [0, 1], ["a", "b"])
    with pytest.raises(DataError, match="list 1 has no candidates"):
        lm.choice_weights([1.0, 2.0], [0, 2, 2])
    with pytest.raises(DataError, match="do not cover the 3 candidate rows"):
        lm.choice_weights([1.0, 2.0, 3.0], [0, 2])


def test_exposure_calibration_of_the_logger_itself_is_perfect() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=4000)
    offsets = np.arange(0, 4001, 4)
    propensity = lm.list_softmax(logits + 3.0, offsets)
    assert propensity.reshape(-1, 4).sum(1) == pytest.approx(np.ones(1000))
    exposed = (propensity.reshape(-1, 4).cumsum(1) < rng.random((1000, 1))).sum(1)
    head = lm.exposure_calibration(logits, offsets, exposed, propensity)
    assert head.log_loss == pytest.approx(head.propensity_log_loss)
    assert head.correlation == pytest.approx(1)
    assert head.mean_absolute_error == pytest.approx(0, abs=1e-12)
    blind = lm.exposure_calibration(np.zeros(4000), offsets, exposed, propensity)
    assert blind.log_loss == pytest.approx(np.log(4))
    assert blind.log_loss > head.log_loss
    assert np.isnan(blind.correlation)


def test_exposure_calibration_by_hand_with_single_candidate_lists_and_unknown_propensities() -> None:
    logits = np.log([0.2, 0.8, 1.0, 0.5, 0.5])
    propensity = [0.4, 0.6, 1.0, np.nan, np.nan]
    found = lm.exposure_calibration(logits, [0, 2, 3, 5], [1, 0, 0], propensity)
    assert found.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    assert np.isnan(found.propensity_log_loss)
    assert found.mean_absolute_error == pytest.approx(0.2)
    assert all(np.isnan(value) for value in lm.exposure_calibration([0.0], [0, 1], [0], [1.0]).metrics().values())
