"""The logging policy: epsilon-greedy on a stale model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adray.simulation.catalogue import UNLOGGED, Creatives
from adray.simulation.config import PolicyConfig


@dataclass(frozen=True)
class Policy:
    """The policy during one block.

    Attributes:
        epsilon: Probability of a uniform draw; 1 during warm-up.
        greedy: int64 `[S]`, place of the best-scored creative in each SKU's list.
        offered: int64 `[S]`, how many of each SKU's creatives are on offer (the first ones of its list).
    """

    epsilon: float
    greedy: np.ndarray
    offered: np.ndarray

    def choose(self, skus: np.ndarray, explore: np.ndarray, pick: np.ndarray) -> np.ndarray:
        """Place of the shown creative in each SKU's list.

        Args:
            skus: int64 `[n]`.
            explore: float64 `[n]`, uniform in [0, 1): below epsilon explores.
            pick: float64 `[n]`, uniform in [0, 1): which one, when exploring.

        Returns:
            int64 `[n]`.
        """
        random = np.floor(pick * self.offered[skus]).astype(np.int64)
        return np.where(explore < self.epsilon, random, self.greedy[skus])

    def propensities(self, skus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exact probability of showing every candidate.

        Returns:
            float64 `[m]`, flat over the lists of `skus`, and int64 `[n + 1]`, the lists' offsets.
        """
        counts = self.offered[skus]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        flat = np.repeat(self.epsilon / counts, counts)
        flat[offsets[:-1] + self.greedy[skus]] += 1.0 - self.epsilon
        return flat, offsets


def creative_scores(config: PolicyConfig, creatives: Creatives, exposures: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """Score creatives by what was logged so far.

    Args:
        config: Which model, and its smoothing.
        creatives: The creatives.
        exposures: float64 `[C]`, times shown.
        clicks: float64 `[C]`, times clicked.

    Returns:
        float64 `[C]`; the higher the better within a SKU.
    """
    overall = (clicks.sum() + 1.0) / (exposures.sum() + 2.0)
    if config.model == "creative_ctr":
        prior = _smoothed(np.bincount(creatives.sku, exposures), np.bincount(creatives.sku, clicks), overall, config.smoothing)
        return _smoothed(exposures, clicks, prior[creatives.sku], config.smoothing)
    scores = np.zeros(len(creatives))
    for elements in creatives.elements.T:
        rate = _smoothed(np.bincount(elements, exposures), np.bincount(elements, clicks), overall, config.smoothing)
        scores += np.log(rate)[elements]
    return scores


def _smoothed(exposures: np.ndarray, clicks: np.ndarray, prior: np.ndarray | float, weight: float) -> np.ndarray:
    return np.asarray((clicks + weight * prior) / (exposures + weight))


def greedy_policy(epsilon: float, creatives: Creatives, scores: np.ndarray, last_entry: int = UNLOGGED) -> Policy:
    """Epsilon-greedy on `scores` over the creatives on offer; ties go to the first of the list."""
    offered = creatives.offered(last_entry)
    usable = np.where(creatives.entry <= last_entry, scores, -np.inf)
    best = np.maximum.reduceat(usable, creatives.offsets[:-1])
    place = np.arange(len(creatives)) - creatives.offsets[creatives.sku]
    first = np.where(usable == best[creatives.sku], place, len(creatives))
    return Policy(epsilon, np.minimum.reduceat(first, creatives.offsets[:-1]), offered)
