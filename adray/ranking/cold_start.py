"""What a policy is worth on new creatives: those that the training log never showed, so that no count of it can help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from adray.bootstrap import Interval, sums_intervals
from adray.errors import DataError
from adray.ranking.arrays import offsets_of
from adray.ranking.list_metrics import check_offsets, choice_weights, list_ids
from adray.ranking.world_value import RequestTruth

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ColdValue:
    """True values on the requests that offer at least two new creatives, choosing among those alone; intervals over requests.

    Attributes:
        policy: Click rate of showing the best score (ties share).
        uniform: Click rate of a uniformly random choice, which is all that a model blind to content can do.
        oracle: Click rate of always showing the best of them.
        uplift_share: `(policy - uniform) / (oracle - uniform)`: 0 is as good as chance, 1 is perfect.
        requests: Number of these requests.
        creatives: Number of distinct new creatives in them.
    """

    policy: Interval
    uniform: Interval
    oracle: Interval
    uplift_share: Interval
    requests: int
    creatives: int

    def metrics(self) -> dict[str, float]:
        """Flat metrics, all named `cold_...`."""
        flat = self.uplift_share.metrics("cold_uplift_share")
        flat |= {f"cold_true_ctr_{name}": getattr(self, name).value for name in ("policy", "uniform", "oracle")}
        return flat | {"cold_requests": float(self.requests), "cold_creatives": float(self.creatives)}


def cold_value(truth: RequestTruth, scores: npt.ArrayLike, new: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0) -> ColdValue | None:
    """Value "show the best score" among new creatives against a uniform choice and the oracle; exact, from the world's truth.

    Args:
        truth: The requests, m candidates in all.
        scores: `[m]`, the model's click scores.
        new: bool `[m]`, candidates that the training log never showed.
        resamples: Number of bootstrap draws over requests.
        seed: Seed of the draws.

    Returns:
        The values; None when no request offers two new creatives.

    Raises:
        DataError: If scores or marks and candidates differ in number.
    """
    cuts, values, marks = check_offsets(truth.offsets, truth.click_probability.size), np.asarray(scores), np.asarray(new, bool)
    if not values.size == marks.size == truth.click_probability.size:
        raise DataError(
            f"{values.size} scores and {marks.size} marks for {truth.click_probability.size} candidates",
            "score every request of the table in its order",
        )
    lists = list_ids(cuts)
    per_list = np.bincount(lists[marks], minlength=cuts.size - 1)
    kept = marks & (per_list >= 2)[lists]
    offsets = offsets_of(per_list[per_list >= 2])
    if offsets.size < 2:
        return None
    probability = truth.click_probability[kept]

    def per_request(weights: Array) -> Array:
        return np.add.reduceat(weights * probability, offsets[:-1])

    policy, oracle = (per_request(choice_weights(by, offsets)) for by in (values[kept], probability))
    uniform = per_request(1 / np.diff(offsets)[list_ids(offsets)])
    table = np.stack([policy, uniform, oracle, np.ones(policy.size)], axis=1)
    figures: dict[str, Callable[[Array], Array]] = {
        "policy": lambda sums: sums[..., 0] / sums[..., 3],
        "uniform": lambda sums: sums[..., 1] / sums[..., 3],
        "oracle": lambda sums: sums[..., 2] / sums[..., 3],
        "uplift_share": lambda sums: (sums[..., 0] - sums[..., 1]) / (sums[..., 2] - sums[..., 1]),
    }
    found = sums_intervals(table, figures, resamples=resamples, seed=seed)
    return ColdValue(**found, requests=offsets.size - 1, creatives=np.unique(truth.creatives[kept]).size)
