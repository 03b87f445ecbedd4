from __future__ import annotations

import math

import numpy as np
import pytest

from adray.simulation.clicks import calibrate
from adray.simulation.config import EffectsConfig, WorldConfig
from adray.simulation.vocabulary import ELEMENTS, SLOTS
from tests.unit.simulation.conftest import draw_model

CONFIG = WorldConfig(users=300, skus=50)


def test_probability_is_the_logistic_of_the_sum_of_effects() -> None:
    model = draw_model(CONFIG, seed=1)
    user, creative = 17, 33
    sku = model.creatives.sku[creative]
    category = model.users.category_taste[user, model.products.category[sku]]
    price = model.users.price_taste[user] * model.price[sku]
    logit = -1.5 + model.appeal[sku] + CONFIG.effects.affinity * (category + price) / math.sqrt(2.0)
    logit += model.main[creative] + sum(model.users.taste[user, d] * model.vectors[creative, d] for d in range(CONFIG.effects.taste_dims))
    expected = 1.0 / (1.0 + math.exp(-logit))
    assert model.probability(np.array([user]), np.array([creative]), -1.5)[0] == pytest.approx(expected, rel=1e-12)


def test_cross_equals_the_probability_of_each_pair() -> None:
    model = draw_model(CONFIG, seed=1)
    users = np.array([3, 250, 9])
    cross = model.cross(users, -2.0)
    n = len(model.creatives)
    pairs = model.probability(np.repeat(users, n), np.tile(np.arange(n), 3), -2.0)
    np.testing.assert_allclose(cross.reshape(-1), pairs, rtol=1e-12)


def test_effects_have_their_configured_deviations() -> None:
    effects = EffectsConfig(sku_appeal=0.3, affinity=0.6, creative=0.5, creative_noise=0.2, interaction=0.9, taste_dims=4)
    config = WorldConfig(users=3000, skus=600, effects=effects)
    model = draw_model(config, seed=3)
    interaction = model.users.taste @ model.vectors.T
    assert model.appeal.std() == pytest.approx(0.3)
    assert model.main.std() == pytest.approx(math.hypot(0.5, 0.2), rel=0.05)
    assert interaction.std() == pytest.approx(0.9, rel=0.1)
    # Nobody gains from interaction on average over users: it moves choices, not the level.
    np.testing.assert_allclose(interaction.mean(axis=0), 0.0, atol=1e-9)
    users, skus = np.repeat(np.arange(3000), 600), np.tile(np.arange(600), 3000)
    assert (model.context_logit(users, skus) - model.appeal[skus]).std() == pytest.approx(0.6, rel=0.15)


def test_elements_are_centred_within_their_slot() -> None:
    config = WorldConfig(users=50, skus=3000, effects=EffectsConfig(creative_noise=0.0))
    model = draw_model(config, seed=5)
    # A creative's vector is a sum over its elements; regress the elements' own vectors out of many creatives.
    columns = [np.eye(len(ELEMENTS[slot]))[index] for slot, index in zip(SLOTS, model.creatives.elements.T, strict=True)]
    target = np.column_stack([model.vectors, model.main])
    fitted = np.linalg.lstsq(np.concatenate(columns, axis=1), target, rcond=None)
    np.testing.assert_allclose(np.concatenate(columns, axis=1) @ fitted[0], target, atol=1e-9)
    every_combination_once = sum(part.mean(axis=0) for part in np.split(fitted[0], np.cumsum([c.shape[1] for c in columns])[:-1]))
    np.testing.assert_allclose(every_combination_once[:-1], 0.0, atol=1e-9)


def test_without_interaction_all_users_order_creatives_alike() -> None:
    config = CONFIG.model_copy(update={"effects": EffectsConfig(interaction=0.0)})
    cross = draw_model(config, seed=4).cross(np.arange(300), -2.0)
    offsets = draw_model(config, seed=4).creatives.offsets
    for start, end in zip(offsets[:-1], offsets[1:], strict=True):
        assert len(np.unique(cross[:, start:end].argmax(axis=1))) == 1


def test_calibrate_hits_the_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    logit, weight = rng.normal(size=5000), rng.uniform(0.3, 1.0, 5000)
    intercept = calibrate(logit, weight, 0.04)
    assert np.mean(weight / (1.0 + np.exp(-logit - intercept))) == pytest.approx(0.04, rel=1e-9)
