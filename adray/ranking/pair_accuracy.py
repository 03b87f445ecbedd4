"""Within-list pair accuracy: of two candidates of one list, does the model score the better one higher?

Two sources say which candidate is better. Aggregated lists (every candidate has impressions and clicks, as in randomised
headline tests) are judged by a two-proportion z-test. Exposure logs show one candidate per list, so there only the clicked
one against the rest can be used, which the logging policy biases unless its propensities reweigh it.
Equal scores count one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from adray.bootstrap import Interval, ratio_interval
from adray.errors import DataError
from adray.ranking.list_metrics import check_offsets, list_ids
from adray.ranking.metrics import finite

Array = npt.NDArray[Any]

CLEAR_DIFFERENCE = 2.58
"""|z| above which two click rates are taken to differ: p < 0.01, two-sided."""


@dataclass(frozen=True)
class PairAccuracy:
    """Share of pairs ordered rightly.

    Attributes:
        value: The share with its bootstrap interval over lists.
        pairs: Pairs judged (a sum of weights where pairs are weighted).
        lists: Lists that hold at least one judged pair.
    """

    value: Interval
    pairs: float
    lists: int

    def metrics(self, name: str = "pair_accuracy") -> dict[str, float]:
        """All figures as flat metrics."""
        return self.value.metrics(name) | {f"{name}_pairs": float(self.pairs), f"{name}_lists": float(self.lists)}


@dataclass(frozen=True)
class JudgedPairs:
    """All pairs of candidates within lists whose click rates differ; `[pairs]` each.

    Attributes:
        z: |z| of the two-proportion test.
        correct: 1 where the model prefers the candidate with the higher click rate, 0.5 for equal scores, else 0.
        lists: The list of each pair.
    """

    z: Array
    correct: Array
    lists: Array


def list_pairs(offsets: Array) -> tuple[Array, Array]:
    """Flat rows (first, second) of every unordered pair of candidates that share a list.

    Args:
        offsets: int64 `[n + 1]`.
    """
    starts, lengths = offsets[:-1], np.diff(offsets)
    blocks = [np.zeros((2, 0), dtype=np.int64)]
    # Lists of one length share their index pattern, so the loop runs over lengths, not lists.
    for length in np.unique(lengths[lengths > 1]):
        pattern = np.stack(np.triu_indices(length, k=1))
        blocks.append((starts[lengths == length][None, :, None] + pattern[:, None, :]).reshape(2, -1))
    first, second = np.concatenate(blocks, axis=1)
    return first, second


def two_proportion_z(clicks: tuple[Array, Array], impressions: tuple[Array, Array]) -> Array:
    """Signed z of the difference of two click rates with pooled variance; 0 where it is undefined.

    `z = (k1/n1 - k2/n2) / sqrt(p (1 - p) (1/n1 + 1/n2))` with `p = (k1 + k2) / (n1 + n2)`.

    Args:
        clicks: k1 and k2, `[pairs]` each.
        impressions: n1 and n2, `[pairs]` each.
    """
    (k1, k2), (n1, n2) = clicks, impressions
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (k1 + k2) / (n1 + n2)
        z = (k1 / n1 - k2 / n2) / np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    return np.where(np.isfinite(z), z, 0.0)


def judge_pairs(scores: npt.ArrayLike, offsets: npt.ArrayLike, impressions: npt.ArrayLike, clicks: npt.ArrayLike) -> JudgedPairs:
    """Judge every pair of an aggregated list whose click rates differ.

    Args:
        scores: `[m]`.
        offsets: int64 `[n + 1]`.
        impressions: `[m]`, exposures of each candidate; pairs with an unexposed candidate cannot be judged.
        clicks: `[m]`, at most `impressions`.

    Raises:
        DataError: If a score is not finite, a candidate has more clicks than impressions, or the offsets do not fit.
    """
    values = finite(scores, "score")
    cuts = check_offsets(offsets, values.size)
    shown, clicked = np.asarray(impressions, np.float64), np.asarray(clicks, np.float64)
    wrong = np.flatnonzero(clicked > shown)
    if wrong.size:
        raise DataError(
            f"candidate row {wrong[0]} has {clicked[wrong[0]]:g} clicks in {shown[wrong[0]]:g} impressions",
            "clicks cannot exceed impressions",
        )
    first, second = list_pairs(cuts)
    z = two_proportion_z((clicked[first], clicked[second]), (shown[first], shown[second]))
    agreement = np.sign(z) * np.sign(values[first] - values[second])
    judged = z != 0
    return JudgedPairs(np.abs(z[judged]), (agreement[judged] + 1) / 2, list_ids(cuts)[first[judged]])


def pair_accuracy(judged: JudgedPairs, threshold: float = CLEAR_DIFFERENCE, *, resamples: int = 1000, seed: int = 0) -> PairAccuracy:
    """Accuracy over the pairs whose click rates clearly differ (|z| > threshold).

    Args:
        judged: The judged pairs.
        threshold: Smallest |z|, exclusive.
        resamples: Number of bootstrap draws over lists.
        seed: Seed of the draws.
    """
    clear = judged.z > threshold
    return _over_lists(judged.lists[clear], judged.correct[clear], np.ones(int(clear.sum())), resamples, seed)


def pair_accuracy_by_z(judged: JudgedPairs, edges: Sequence[float], *, resamples: int = 1000, seed: int = 0) -> list[PairAccuracy]:
    """Accuracy in bins of |z|: `edges[i] < |z| <= edges[i + 1]`.

    Args:
        judged: The judged pairs.
        edges: Rising bin edges; `float("inf")` may be the last.
        resamples: Number of bootstrap draws over lists.
        seed: Seed of the draws.
    """
    result = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (judged.z > low) & (judged.z <= high)
        result.append(_over_lists(judged.lists[inside], judged.correct[inside], np.ones(int(inside.sum())), resamples, seed))
    return result


def clicked_pair_accuracy(
    scores: npt.ArrayLike,
    offsets: npt.ArrayLike,
    exposed: npt.ArrayLike,
    clicked: npt.ArrayLike,
    propensity: npt.ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> PairAccuracy:
    """Share of (clicked, other candidate of the list) pairs in which the clicked candidate has the higher score.

    Without propensities the figure favours whoever imitates the logging policy: what is shown often is clicked often.
    With them each clicked list counts 1 / propensity of its exposed candidate (inverse propensity scoring), which makes
    numerator and denominator unbiased for a log that had shown every candidate of every list once.

    Args:
        scores: `[m]`.
        offsets: int64 `[n + 1]`.
        exposed: int64 `[n]`; lists with -1 are skipped.
        clicked: `[n]`, 0 or 1 (NaN in aggregated lists).
        propensity: `[m]`, the logger's probability of each candidate, or None for equal weights.
        resamples: Number of bootstrap draws over lists.
        seed: Seed of the draws.

    Raises:
        DataError: If a score is not finite, or the propensity of a clicked candidate is not in (0, 1].
    """
    values = finite(scores, "score")
    cuts = check_offsets(offsets, values.size)
    shown, lists = np.asarray(exposed, np.int64), list_ids(cuts)
    use = (shown >= 0) & (np.asarray(clicked, np.float64) == 1)
    exposed_row = cuts[:-1] + np.maximum(shown, 0)
    weight = np.ones(shown.size)
    if propensity is not None:
        chance = np.asarray(propensity, np.float64)[exposed_row]
        wrong = np.flatnonzero(use & ~((chance > 0) & (chance <= 1)))
        if wrong.size:
            raise DataError(f"propensity of the clicked candidate of list {wrong[0]} is {chance[wrong[0]]}", "it must lie in (0, 1]")
        weight = np.where(use, 1 / np.where(use, chance, 1.0), 1.0)
    rivals = np.flatnonzero(use[lists] & (np.arange(values.size) != exposed_row[lists]))
    correct = (np.sign(values[exposed_row[lists[rivals]]] - values[rivals]) + 1) / 2
    return _over_lists(lists[rivals], correct, weight[lists[rivals]], resamples, seed)


def _over_lists(lists: Array, correct: Array, weights: Array, resamples: int, seed: int) -> PairAccuracy:
    names, index = np.unique(lists, return_inverse=True)
    right, total = np.bincount(index, correct * weights, names.size), np.bincount(index, weights, names.size)
    return PairAccuracy(ratio_interval(right, total, resamples=resamples, seed=seed), float(weights.sum()), names.size)
