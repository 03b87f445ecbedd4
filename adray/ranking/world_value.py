"""What a policy is really worth in a simulated world, where the click probability of every candidate is known.

Nothing is estimated from clicks here: a policy's value on a request is the true click probability of what it would show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from adray.bootstrap import Interval, sums_intervals
from adray.errors import DataError
from adray.ranking.list_metrics import check_offsets, choice_weights, list_ids
from adray.ranking.metrics import auc

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RequestTruth:
    """n requests with m candidates in all, in the order of the requests table.

    Attributes:
        offsets: int64 `[n + 1]`.
        click_probability: float64 `[m]`, true chance of a click if this candidate were shown.
        propensity: float64 `[m]`, the logging policy's probability of each candidate.
        skus: int64 `[n]`, codes >= 0 that are equal where the SKU is.
        creatives: int64 `[m]`, codes >= 0 that are equal where the creative is.
    """

    offsets: Array
    click_probability: Array
    propensity: Array
    skus: Array
    creatives: Array


@dataclass(frozen=True)
class WorldValue:
    """True values on the requests; intervals are drawn over requests.

    Attributes:
        policy: Click rate of showing the best score (ties share).
        logging: Click rate of the logging policy, `sum propensity * p`.
        uniform: Click rate of a uniformly random choice.
        oracle: Click rate of always showing the best candidate.
        best_per_sku: Click rate of the best choice that looks at the SKU but not at the user, found on these very requests: the
            ceiling without personalisation.
        uplift_share: `(policy - logging) / (oracle - logging)`: 0 is as good as the log, 1 is perfect, below 0 is worse than the log.
        best_per_sku_share: The same share for `best_per_sku`.
        uniform_share: The same share for `uniform`.
        requests: Number of requests.
    """

    policy: Interval
    logging: Interval
    uniform: Interval
    oracle: Interval
    best_per_sku: Interval
    uplift_share: Interval
    best_per_sku_share: Interval
    uniform_share: Interval
    requests: int

    @property
    def regret(self) -> float:
        """Clicks per request that the policy misses against the oracle."""
        return self.oracle.value - self.policy.value

    def metrics(self) -> dict[str, float]:
        """Flat metrics; `oracle_uplift_share` is the share the policy reached."""
        flat = self.uplift_share.metrics("oracle_uplift_share") | self.best_per_sku_share.metrics("best_per_sku_uplift_share")
        flat |= {f"true_ctr_{name}": getattr(self, name).value for name in ("policy", "logging", "uniform", "oracle", "best_per_sku")}
        return flat | {"regret": self.regret, "requests": float(self.requests)}

    def policies(self) -> dict[str, Interval]:
        """Click rates by the policies' display names, worst to best as a rule."""
        return {
            "uniform": self.uniform,
            "logging policy": self.logging,
            "model": self.policy,
            "best per SKU": self.best_per_sku,
            "oracle": self.oracle,
        }


def world_value(truth: RequestTruth, scores: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0) -> WorldValue:
    """Value "show the best score" against the logging, uniform, best-per-SKU and oracle policies.

    Args:
        truth: The requests.
        scores: `[m]`, the model's click scores, aligned with the truth's candidates.
        resamples: Number of bootstrap draws over requests.
        seed: Seed of the draws.

    Raises:
        DataError: If a score is not finite, scores and candidates differ in number, or no propensities are known.
    """
    cuts = check_offsets(truth.offsets, truth.click_probability.size)
    if np.size(scores) != truth.click_probability.size:
        raise DataError(
            f"{np.size(scores)} scores for {truth.click_probability.size} candidates", "score every request of the table in its order"
        )
    unknown = np.flatnonzero(~np.isfinite(truth.propensity))
    if unknown.size:
        raise DataError(
            f"request {list_ids(cuts)[unknown[0]]} has a candidate without propensity ({unknown.size} such candidates)",
            "a world's requests carry the logging policy's propensity on every candidate; simulate it again",
        )

    def per_request(weights: Array) -> Array:
        return np.add.reduceat(weights * truth.click_probability, cuts[:-1]) if cuts.size > 1 else np.zeros(0)

    lengths = np.diff(cuts)
    value = {
        "policy": per_request(choice_weights(scores, cuts)),
        "logging": per_request(truth.propensity),
        "uniform": per_request(1 / lengths[list_ids(cuts)]),
        "oracle": per_request(choice_weights(truth.click_probability, cuts)),
        "best_per_sku": per_request(choice_weights(mean_by_creative(truth), cuts)),
    }
    names = [*value, "requests"]
    table = np.stack([*value.values(), np.ones(lengths.size)], axis=1)
    column = {name: names.index(name) for name in names}

    def mean_of(name: str) -> Callable[[Array], Array]:
        return lambda sums: sums[..., column[name]] / sums[..., column["requests"]]

    def share_of(name: str) -> Callable[[Array], Array]:
        def share(sums: Array) -> Array:
            logged = sums[..., column["logging"]]
            return (sums[..., column[name]] - logged) / (sums[..., column["oracle"]] - logged)

        return share

    figures = {name: mean_of(name) for name in value} | {
        "uplift_share": share_of("policy"),
        "best_per_sku_share": share_of("best_per_sku"),
        "uniform_share": share_of("uniform"),
    }
    return WorldValue(**sums_intervals(table, figures, resamples=resamples, seed=seed), requests=lengths.size)


def true_ad_auc(truth: RequestTruth, scores: npt.ArrayLike) -> float:
    """AUC of ad scores over requests in which every request counts as a click with its true chance and as none with the rest.

    The chance is that under the logging policy, `sum propensity * p`: what an ad score is trained to tell before the creative
    is known. It is the expected AUC of infinitely many repetitions of the log, so no click's luck is in it.

    Args:
        truth: n requests.
        scores: `[n]`, ad scores.

    Raises:
        DataError: If a score is not finite, or scores and requests differ in number.
    """
    cuts = check_offsets(truth.offsets, truth.click_probability.size)
    scores = np.asarray(scores, dtype=np.float64)
    if scores.size != cuts.size - 1:
        raise DataError(f"{scores.size} ad scores for {cuts.size - 1} requests", "score every request of the table in its order")
    chance = np.bincount(list_ids(cuts), truth.propensity * truth.click_probability, cuts.size - 1)
    labels = np.repeat([1.0, 0.0], scores.size)
    return auc(labels, np.tile(scores, 2), np.concatenate([chance, 1 - chance]))


def mean_by_creative(truth: RequestTruth) -> Array:
    """Score of the best choice without the user: each creative's mean true click probability over its SKU's requests, `[m]`."""
    skus = truth.skus[list_ids(truth.offsets)]
    _, pair = np.unique(skus * (truth.creatives.max(initial=0) + 1) + truth.creatives, return_inverse=True)
    return (np.bincount(pair, truth.click_probability) / np.bincount(pair))[pair]


def load_request_truth(requests: str, truth: str) -> RequestTruth:
    """Join a world's requests with the true click probabilities by user, SKU and creative.

    The truth table may hold millions of rows: it is streamed, and rows of users or SKUs that made no request are dropped before
    their lists are unpacked.

    Args:
        requests: The requests table (local path, folder or URI).
        truth: The truth table likewise.

    Returns:
        The truth of every candidate, in the order of the requests table.

    Raises:
        DataError: If a table cannot be read, or a candidate has no known truth (the first one is named).
    """
    table = _dataset(requests).to_table(columns=["user_id", "sku_id", "candidates"]).combine_chunks()
    candidates = _chunk(table["candidates"])
    creatives = pc.struct_field(candidates.flatten(), "creative_id")
    offsets = np.concatenate(([0], np.cumsum(pc.list_value_length(candidates).to_numpy(zero_copy_only=False)))).astype(np.int64)
    coder = _Coder(table["user_id"], table["sku_id"], creatives)
    wanted = coder.pairs(table["user_id"], table["sku_id"])
    keys = wanted[list_ids(offsets)] * len(coder.creatives) + coder.codes(creatives, coder.creatives)
    return RequestTruth(
        offsets=offsets,
        click_probability=_look_up(keys, *_read_truth(truth, coder, np.unique(wanted)), describe=coder.describe, truth=truth),
        propensity=pc.struct_field(candidates.flatten(), "propensity").to_numpy(zero_copy_only=False).astype(np.float64),
        skus=coder.codes(table["sku_id"], coder.skus),
        creatives=coder.codes(creatives, coder.creatives),
    )


class _Coder:
    """Numbers for the users, SKUs and creatives that the requests name; anything else is -1."""

    def __init__(self, users: pa.ChunkedArray, skus: pa.ChunkedArray, creatives: pa.Array) -> None:
        self.users, self.skus, self.creatives = (pc.unique(values) for values in (users, skus, creatives))

    @staticmethod
    def codes(values: pa.Array | pa.ChunkedArray, known: pa.Array) -> Array:
        codes = pc.fill_null(pc.index_in(values.cast(known.type), known), -1)
        return codes.to_numpy(zero_copy_only=False).astype(np.int64) if isinstance(codes, pa.Array) else codes.to_numpy().astype(np.int64)

    def pairs(self, users: pa.Array | pa.ChunkedArray, skus: pa.Array | pa.ChunkedArray) -> Array:
        """One number for each (user, SKU); -1 where either is unknown."""
        user, sku = self.codes(users, self.users), self.codes(skus, self.skus)
        return np.where((user >= 0) & (sku >= 0), user * len(self.skus) + sku, -1)

    def describe(self, key: int) -> str:
        pair, creative = divmod(key, len(self.creatives))
        user, sku = divmod(pair, len(self.skus))
        return f"user {self.users[user]}, SKU {self.skus[sku]}, creative {self.creatives[creative]}"


def _read_truth(path: str, coder: _Coder, wanted: Array) -> tuple[Array, Array]:
    """Keys (user, SKU, creative), rising, and the click probabilities of all wanted (user, SKU) pairs."""
    keys, probabilities = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for batch in _dataset(path).to_batches(columns=["user_id", "sku_id", "creative_ids", "click_probability"]):
        pairs = coder.pairs(batch["user_id"], batch["sku_id"])
        rows = np.flatnonzero(np.isin(pairs, wanted))
        if rows.size == 0:
            continue
        kept = batch.take(pa.array(rows))
        lengths = pc.list_value_length(kept["creative_ids"]).to_numpy(zero_copy_only=False)
        creative = coder.codes(kept["creative_ids"].flatten(), coder.creatives)
        probability = kept["click_probability"].flatten().to_numpy(zero_copy_only=False)
        if creative.size != probability.size:
            raise DataError(f"{path}: lists creative_ids and click_probability differ in length", "simulate the world again")
        known = creative >= 0
        keys.append((np.repeat(pairs[rows], lengths) * len(coder.creatives) + creative)[known])
        probabilities.append(probability[known].astype(np.float64))
    key, probability = np.concatenate(keys), np.concatenate(probabilities)
    order = np.argsort(key, kind="stable")
    return key[order], probability[order]


def _look_up(wanted: Array, keys: Array, values: Array, *, describe: Callable[[int], str], truth: str) -> Array:
    at = np.minimum(np.searchsorted(keys, wanted), max(keys.size - 1, 0))
    missing = np.ones(wanted.size, dtype=bool) if keys.size == 0 else keys[at] != wanted
    if missing.any():
        first = describe(int(wanted[missing][0]))
        raise DataError(
            f"{truth} has no click probability for {first} ({missing.sum()} such candidates)", "use requests and truth of the same world"
        )
    return values[at]


def _dataset(path: str) -> ds.Dataset:
    try:
        return ds.dataset(path, format="parquet")
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"table {path} cannot be read: {error}", "name a Parquet file or folder") from None


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
