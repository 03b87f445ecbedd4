"""The truth: every click probability, and what follows from it for policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from adray.simulation.behaviour import Lists
from adray.simulation.clicks import ClickModel
from adray.simulation.log import Log, Traffic
from adray.simulation.tables import coded, coded_lists, write_parquet

_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True)
class PolicyValues:
    """Mean true CTR at the first position over the requests, by policy.

    Attributes:
        worst: Always the least clickable candidate.
        uniform: A random candidate.
        logging: The logging policy as it stood at the log's end.
        best_single: For each SKU the one creative that is best for users on average.
        oracle: Always the most clickable candidate.
    """

    worst: float
    uniform: float
    logging: float
    best_single: float
    oracle: float

    def uplift_share(self, value: float) -> float:
        """Share of the oracle's gain over the logging policy that a policy of this value reaches; 0 without such a gain."""
        gain = self.oracle - self.logging
        return (value - self.logging) / gain if gain > 0.0 else 0.0


def write_truth(path: Path, model: ClickModel, users: np.ndarray, intercept: float) -> np.ndarray:
    """Stream the click probability of every (user, SKU, creative) at the first position.

    Args:
        path: The Parquet file.
        model: The click model.
        users: int64 `[n]`, whose truth is written, in this order; each user's SKUs in order.
        intercept: The click model's.

    Returns:
        float64 `[C]`, each creative's mean click probability over the users, weighted by their activity.
    """
    mean = np.zeros(len(model.creatives))
    weight = model.users.activity[users] / model.users.activity[users].sum()
    write_parquet(path, _truth_tables(model, users, weight, intercept, mean), row_group=1 << 16)
    return mean


def _truth_tables(model: ClickModel, users: np.ndarray, weight: np.ndarray, intercept: float, mean: np.ndarray) -> Iterator[pa.Table]:
    creatives, skus = model.creatives, len(model.products)
    user_ids, sku_ids, creative_ids = (pa.array(part.ids()) for part in (model.users, model.products, creatives))
    step = max(1, _CHUNK_VALUES // len(creatives))
    rows, values = np.tile(np.arange(skus, dtype=np.int32), step), np.tile(np.arange(len(creatives), dtype=np.int32), step)
    for start in range(0, len(users), step):
        chunk = users[start : start + step]
        probability = model.cross(chunk, intercept)
        mean += np.einsum("u,uc->c", weight[start : start + step], probability)
        ends = creatives.offsets[1:] + np.arange(len(chunk))[:, None] * len(creatives)
        offsets = np.concatenate([[0], ends.reshape(-1)])
        flat = pa.array(probability.reshape(-1).astype(np.float32))
        yield pa.table(
            {
                "user_id": coded(np.repeat(chunk, skus), user_ids),
                "sku_id": coded(rows[: skus * len(chunk)], sku_ids),
                "creative_ids": coded_lists(Lists(values[: offsets[-1]], offsets), creative_ids),
                "click_probability": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat),
            }
        )


def policy_values(model: ClickModel, log: Log, requests: Traffic, mean_probability: np.ndarray) -> PolicyValues:
    """True values over the requests.

    Args:
        model: The click model.
        log: The log, whose policy at its end and intercept are used.
        requests: The decisions, with all creatives of their SKU as candidates.
        mean_probability: float64 `[C]`, mean click probability over users, which ranks the best single creative.
    """
    creatives, policy = model.creatives, log.request_policy
    propensity, offsets = policy.propensities(requests.skus)
    lengths = np.diff(offsets)
    candidate = np.arange(offsets[-1]) + np.repeat(creatives.offsets[requests.skus] - offsets[:-1], lengths)
    probability = model.probability(np.repeat(requests.users, lengths), candidate, log.intercept)
    starts, n = offsets[:-1], len(requests)
    best = np.maximum.reduceat(mean_probability, creatives.offsets[:-1])
    is_best = mean_probability[candidate] == best[creatives.sku[candidate]]
    return PolicyValues(
        worst=float(np.minimum.reduceat(probability, starts).mean()),
        uniform=float((np.add.reduceat(probability, starts) / lengths).mean()),
        logging=float((probability * propensity).sum() / n),
        best_single=float((probability * is_best).sum() / n),
        oracle=float(np.maximum.reduceat(probability, starts).mean()),
    )
