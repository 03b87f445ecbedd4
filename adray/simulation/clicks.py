"""The true click model: who clicks what, and with which probability.

At position k of examination e_k, P(click) = e_k * sigmoid(intercept + appeal(sku) + affinity(user, sku) + main(creative)
+ taste(user) . vector(creative)): the examination hypothesis (Richardson et al. 2007) over a logistic choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from adray.simulation.catalogue import Creatives, Products
from adray.simulation.config import WorldConfig
from adray.simulation.population import Users, standardise
from adray.simulation.vocabulary import ELEMENTS, SLOTS

_CHUNK = 1 << 17


@dataclass(frozen=True)
class ClickModel:
    """Parameters of the click logit, each already scaled to its configured deviation.

    Attributes:
        appeal: float64 `[S]`.
        affinity: scale of the user-SKU term.
        main: float64 `[C]`, main effect of each creative.
        vectors: float64 `[C, taste_dims]`, what taste is multiplied with.
        price: float64 `[S]`, standardised log price within its category.
    """

    users: Users
    products: Products
    creatives: Creatives
    appeal: np.ndarray
    affinity: float
    main: np.ndarray
    vectors: np.ndarray
    price: np.ndarray

    def context_logit(self, users: np.ndarray, skus: np.ndarray) -> np.ndarray:
        """Appeal and affinity of (user, SKU) pairs, without intercept and creative: float64 `[n]`."""
        category = self.users.category_taste[users, self.products.category[skus]]
        price = self.users.price_taste[users] * self.price[skus]
        return np.asarray(self.appeal[skus] + self.affinity * np.sqrt(0.5) * (category + price))

    def creative_logit(self, users: np.ndarray, creatives: np.ndarray) -> np.ndarray:
        """Main effect and interaction of (user, creative) pairs: float64 `[n]`."""
        result = self.main[creatives]
        for start in range(0, len(users), _CHUNK):
            part = slice(start, start + _CHUNK)
            # Summed in a fixed order and not by BLAS, whose rounding depends on its number of threads.
            for taste, vector in zip(self.users.taste.T, self.vectors.T, strict=True):
                result[part] += taste[users[part]] * vector[creatives[part]]
        return result

    def probability(self, users: np.ndarray, creatives: np.ndarray, intercept: float) -> np.ndarray:
        """Click probability at the first position of (user, creative) pairs: float64 `[n]`."""
        context = self.context_logit(users, self.creatives.sku[creatives])
        return np.asarray(expit(intercept + context + self.creative_logit(users, creatives)))

    def cross(self, users: np.ndarray, intercept: float) -> np.ndarray:
        """Click probability at the first position of each user with every creative: float64 `[n, C]`."""
        skus = np.arange(len(self.products))
        context = self.context_logit(np.repeat(users, len(skus)), np.tile(skus, len(users))).reshape(len(users), len(skus))
        logit = context[:, self.creatives.sku] + (self.main + intercept)
        for taste, vector in zip(self.users.taste[users].T, self.vectors.T, strict=True):
            logit += taste[:, None] * vector
        return np.asarray(expit(logit, out=logit))


def draw_click_model(config: WorldConfig, users: Users, products: Products, creatives: Creatives, rng: np.random.Generator) -> ClickModel:
    """Draw the effects of SKUs, elements and creatives."""
    effects = config.effects
    main = np.zeros(len(creatives))
    vectors = np.zeros((len(creatives), effects.taste_dims))
    for slot, elements in zip(SLOTS, creatives.elements.T, strict=True):
        size = len(ELEMENTS[slot])
        # Centred within a slot: an element then moves the choice among creatives, not the mean of them all.
        main += _centred(rng.normal(size=(size, 1)))[elements, 0]
        vectors += _centred(rng.normal(size=(size, effects.taste_dims)))[elements]
    interaction = np.sqrt(np.mean(np.sum(vectors**2, axis=1)))
    log_price = np.log(products.price)
    category_mean = np.bincount(products.category, log_price) / np.maximum(np.bincount(products.category), 1)
    return ClickModel(
        users=users,
        products=products,
        creatives=creatives,
        appeal=effects.sku_appeal * standardise(rng.normal(size=len(products))),
        affinity=effects.affinity,
        main=effects.creative * standardise(main) + effects.creative_noise * rng.normal(size=len(creatives)),
        vectors=effects.interaction * vectors / interaction,
        price=standardise(log_price - category_mean[products.category]),
    )


def _centred(values: np.ndarray) -> np.ndarray:
    return np.asarray(values - values.mean(axis=0))


def calibrate(logit: np.ndarray, weight: np.ndarray, target: float) -> float:
    """The intercept at which `mean(weight * sigmoid(intercept + logit))` is `target`, by bisection.

    Args:
        logit: float64 `[n]`.
        weight: float64 `[n]` in (0, 1], the examination of each row.
        target: Wanted mean, in (0, mean(weight)).
    """
    low, high = -40.0, 40.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if np.mean(weight * expit(logit + middle)) < target else (low, middle)
    return (low + high) / 2.0
