from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adray.simulation.catalogue import LATE, UNLOGGED, WARM
from adray.simulation.config import PolicyConfig, WorldConfig
from adray.simulation.log import block_start_ms, draw_skus, draw_weighted, log_end_ms, refreshes
from adray.simulation.policy import creative_scores, greedy_policy
from tests.unit.simulation.conftest import Logged, draw_log, draw_model


def test_clicks_follow_the_true_probability_in_every_bin(logged: Logged) -> None:
    log = logged.log
    parts = np.array_split(np.argsort(log.probability), 40)
    expected = np.array([log.probability[rows].sum() for rows in parts])
    variance = np.array([(log.probability[rows] * (1 - log.probability[rows])).sum() for rows in parts])
    observed = np.array([log.clicked[rows].sum() for rows in parts])
    z = (observed - expected) / np.sqrt(variance)
    assert stats.chi2.sf((z**2).sum(), df=40) > 0.001
    assert np.abs(z).max() < 4.0


def test_probability_is_examination_times_the_truth_at_the_first_position(logged: Logged) -> None:
    log, traffic = logged.log, logged.log.traffic
    first = logged.model.probability(traffic.users, log.creative, log.intercept)
    np.testing.assert_allclose(log.probability, first * np.array(logged.config.examination)[traffic.position], rtol=1e-12)


def test_position_bias_can_be_recovered(logged: Logged) -> None:
    log, position = logged.log, logged.log.traffic.position
    first = logged.model.probability(logged.log.traffic.users, log.creative, log.intercept)
    for place, examination in enumerate(logged.config.examination):
        rows = position == place
        estimate = log.clicked[rows].sum() / first[rows].sum()
        assert estimate == pytest.approx(examination, abs=4 * np.sqrt(log.clicked[rows].sum()) / first[rows].sum())
    counts = np.bincount(position)
    assert stats.chisquare(counts).pvalue > 0.001


def test_propensities_equal_the_frequencies_of_exposure(logged: Logged) -> None:
    log, traffic, creatives = logged.log, logged.log.traffic, logged.model.creatives
    expected, variance = np.zeros((2, len(creatives)))
    for block, policy in enumerate(log.policies):
        skus = traffic.skus[traffic.block == block]
        flat, offsets = policy.propensities(skus)
        creative = np.arange(offsets[-1]) + np.repeat(creatives.offsets[skus] - offsets[:-1], np.diff(offsets))
        expected += np.bincount(creative, flat, minlength=len(creatives))
        variance += np.bincount(creative, flat * (1 - flat), minlength=len(creatives))
        np.testing.assert_allclose(np.add.reduceat(flat, offsets[:-1]), 1.0)
    shown = np.bincount(log.creative, minlength=len(creatives))
    assert (shown[expected == 0] == 0).all()
    z = (shown - expected)[variance > 0] / np.sqrt(variance[variance > 0])
    assert np.abs(z).max() < 4.5
    assert np.std(z) == pytest.approx(1.0, abs=0.15)


def test_the_policy_is_uniform_first_and_stale_between_refreshes(logged: Logged) -> None:
    log, config = logged.log, logged.config
    assert [policy.epsilon for policy in log.policies] == [1.0] * 3 + [config.policy.epsilon] * 17
    assert [block for block in range(config.blocks) if refreshes(config, block)] == [3, 7, 11, 15, 19]
    for block in range(4, config.blocks):
        same = (log.policies[block].greedy == log.policies[block - 1].greedy).all()
        assert same or refreshes(config, block) or block == config.cold_block


def test_each_refresh_is_fitted_to_all_earlier_blocks(logged: Logged) -> None:
    log, creatives, config = logged.log, logged.model.creatives, logged.config
    n = len(creatives)
    for block in (3, 11, 19):
        before = log.traffic.block < block
        shown, clicked = np.bincount(log.creative[before], minlength=n), np.bincount(log.creative[before & log.clicked], minlength=n)
        scores = creative_scores(config.policy, creatives, shown.astype(float), clicked.astype(float))
        last_entry = LATE if block >= config.cold_block else WARM
        expected = greedy_policy(config.policy.epsilon, creatives, scores, last_entry)
        np.testing.assert_array_equal(log.policies[block].greedy, expected.greedy)


def test_the_fitted_model_beats_a_random_choice(logged: Logged) -> None:
    log, traffic, creatives = logged.log, logged.log.traffic, logged.model.creatives
    greedy = creatives.offsets[traffic.skus] + log.policies[-1].greedy[traffic.skus]
    random = creatives.offsets[traffic.skus] + np.arange(len(traffic)) % np.diff(creatives.offsets)[traffic.skus]
    first = [logged.model.probability(traffic.users, shown, log.intercept).mean() for shown in (greedy, random)]
    assert first[0] > 1.15 * first[1]


def test_cold_start_creatives_are_absent_from_the_training_part(logged: Logged) -> None:
    log, entry = logged.log, logged.model.creatives.entry
    late = entry[log.creative] == LATE
    assert late.any() and (entry == UNLOGGED).any()
    assert log.traffic.block[late].min() >= logged.config.cold_block == 17
    assert not (entry[log.creative] == UNLOGGED).any()
    for block, policy in enumerate(log.policies):
        np.testing.assert_array_equal(policy.offered, logged.model.creatives.offered(LATE if block >= 17 else WARM))
    np.testing.assert_array_equal(log.request_policy.offered, np.diff(logged.model.creatives.offsets))


def test_time_runs_forward_within_its_block(logged: Logged) -> None:
    traffic, config = logged.log.traffic, logged.config
    assert (np.diff(traffic.time_ms) >= 0).all()
    starts = np.array([block_start_ms(config, block) for block in range(config.blocks + 1)])
    assert (starts[traffic.block] <= traffic.time_ms).all() and (traffic.time_ms < starts[traffic.block + 1]).all()
    assert starts[-1] == log_end_ms(config)
    np.testing.assert_array_equal(np.bincount(traffic.block), 10_000)


def test_users_ask_by_activity_and_skus_appear_by_taste_and_popularity() -> None:
    config = WorldConfig(users=20, skus=6)
    model = draw_model(config, seed=8)
    rng, n = np.random.default_rng(1), 40_000
    users = draw_weighted(model.users.activity, n, rng)
    expected = n * model.users.activity / model.users.activity.sum()
    assert stats.chisquare(np.bincount(users, minlength=20), expected).pvalue > 0.001
    skus = draw_skus(model, np.full(n, 3), rng)
    category = model.products.category
    present = np.unique(category)
    taste = dict(zip(present, np.exp(0.7 * model.users.category_taste[3, present]), strict=True))
    share = {c: taste[c] / sum(taste.values()) for c in present}
    popularity = model.products.popularity
    chance = np.array([share[c] * popularity[s] / popularity[category == c].sum() for s, c in enumerate(category)])
    assert stats.chisquare(np.bincount(skus, minlength=6), n * chance).pvalue > 0.001


@pytest.mark.parametrize("model", ["creative_ctr", "element_ctr"])
def test_expected_ctr_is_hit_under_either_policy(model: str) -> None:
    config = WorldConfig(users=300, skus=30, impressions=50_000, policy=PolicyConfig(model=model, epsilon=0.1))
    assert draw_log(config, seed=2).log.probability.mean() == pytest.approx(0.024, rel=0.003)
