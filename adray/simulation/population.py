"""Users of a world: what can be seen of them, and the tastes that cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adray.simulation.config import WorldConfig
from adray.simulation.vocabulary import AGES, CATEGORIES, CITIES, GENDERS


@dataclass(frozen=True)
class Users:
    """U users.

    Attributes:
        age: int64 `[U]`, index into `AGES`.
        city: int64 `[U]`, index into `CITIES`.
        gender: int64 `[U]`, index into `GENDERS`.
        activity: float64 `[U]`, relative weight of making a request.
        taste: float64 `[U, taste_dims]`, liking of creative attributes; mean 0, variance 1 in each dimension.
        category_taste: float64 `[U, categories]`, likewise for product categories.
        price_taste: float64 `[U]`, likewise for high prices.
    """

    age: np.ndarray
    city: np.ndarray
    gender: np.ndarray
    activity: np.ndarray
    taste: np.ndarray
    category_taste: np.ndarray
    price_taste: np.ndarray

    def __len__(self) -> int:
        return len(self.age)

    def ids(self) -> list[str]:
        """User ids."""
        return [f"u{i:07d}" for i in range(len(self))]


def draw_users(config: WorldConfig, rng: np.random.Generator) -> Users:
    """Draw users; `effects.visible_share` of each taste's variance comes from the visible fields."""
    n = config.users
    age, city, gender = rng.integers(len(AGES), size=n), rng.integers(len(CITIES), size=n), rng.integers(len(GENDERS), size=n)
    fields = ((age, len(AGES)), (city, len(CITIES)), (gender, len(GENDERS)))
    share = config.effects.visible_share
    return Users(
        age=age,
        city=city,
        gender=gender,
        activity=np.exp(rng.normal(0.0, 0.5, n)),
        taste=_latent(fields, config.effects.taste_dims, share, rng),
        category_taste=_latent(fields, len(CATEGORIES), share, rng),
        price_taste=_latent(fields, 1, share, rng)[:, 0],
    )


def _latent(fields: tuple[tuple[np.ndarray, int], ...], dims: int, visible_share: float, rng: np.random.Generator) -> np.ndarray:
    visible = sum(rng.normal(size=(size, dims))[value] for value, size in fields)
    hidden = rng.normal(size=(len(fields[0][0]), dims))
    return np.sqrt(visible_share) * standardise(np.asarray(visible)) + np.sqrt(1.0 - visible_share) * standardise(hidden)


def standardise(values: np.ndarray) -> np.ndarray:
    """Shift and scale each column to mean 0 and variance 1; a constant column becomes 0."""
    centred = values - values.mean(axis=0)
    deviation = centred.std(axis=0)
    return np.asarray(centred / np.where(deviation > 0.0, deviation, 1.0))
