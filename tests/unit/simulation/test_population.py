from __future__ import annotations

import numpy as np
import pytest

from adray.simulation.config import EffectsConfig, WorldConfig
from adray.simulation.population import draw_users, standardise
from adray.simulation.vocabulary import AGES, CITIES, GENDERS


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_visible_fields_explain_the_configured_share_of_taste(share: float) -> None:
    config = WorldConfig(users=20_000, effects=EffectsConfig(visible_share=share, taste_dims=5))
    users = draw_users(config, np.random.default_rng(2))
    parts = ((users.age, AGES), (users.city, CITIES), (users.gender, GENDERS))
    one_hot = np.concatenate([np.eye(len(values))[index] for index, values in parts], axis=1)
    for taste in (*users.taste.T, users.category_taste[:, 0], users.price_taste):
        fitted = one_hot @ np.linalg.lstsq(one_hot, taste, rcond=None)[0]
        assert fitted.var() / taste.var() == pytest.approx(share, abs=0.02)
        assert taste.mean() == pytest.approx(0.0, abs=1e-9)
        assert taste.var() == pytest.approx(1.0, abs=0.03)


def test_standardise_leaves_a_constant_column_at_zero() -> None:
    values = standardise(np.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_array_equal(values, [[-1.0, 0.0], [1.0, 0.0]])
