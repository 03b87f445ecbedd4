"""Metrics of ranked lists, one value per query.

R is the set of relevant things of a query, a list has K places. Recall@k and Hit@k are two metrics and are named apart: with
one relevant thing they agree, with several they do not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def recall_at(relevance: np.ndarray, relevant: np.ndarray, k: int) -> Array:
    """Recall@k, `|R in the first k| / |R|`.

    Args:
        relevance: bool `[q, K]`, whether each place holds something relevant.
        relevant: int `[q]`, |R|, at least 1.
        k: Cut-off, at most K.

    Returns:
        float64 `[q]`, in [0, 1].
    """
    return np.asarray(relevance[:, :k].sum(axis=1) / relevant, np.float64)


def hit_at(relevance: np.ndarray, k: int) -> Array:
    """Hit@k: 1 where anything relevant is among the first k."""
    return np.asarray(relevance[:, :k].any(axis=1), np.float64)


def reciprocal_rank(relevance: np.ndarray) -> Array:
    """1 / rank of the first relevant place; 0 where there is none in the list. Its mean is MRR."""
    first = relevance.argmax(axis=1)
    return np.where(relevance.any(axis=1), 1.0 / (first + 1), 0.0)


def average_precision_at(relevance: np.ndarray, relevant: np.ndarray, k: int) -> Array:
    """AP@k, `sum_i P@i rel_i / min(|R|, k)`. Its mean is mAP@k."""
    first = relevance[:, :k].astype(np.float64)
    precision = first.cumsum(axis=1) / np.arange(1, first.shape[1] + 1)
    return np.asarray((precision * first).sum(axis=1) / np.minimum(relevant, k), np.float64)


def ndcg_at(grades: np.ndarray, ideal: np.ndarray, k: int, exponential: bool = False) -> Array:
    """nDCG@k, `DCG / DCG of the ideal order` with `DCG = sum_i g_i / log2(i + 1)` (Jarvelin and Kekalainen 2002).

    Args:
        grades: `[q, K]`, the grade of each place, 0 for irrelevant; any order.
        ideal: `[q, m]`, grades of everything that could be found, any order.
        k: Cut-off.
        exponential: Gain `2^grade - 1` in place of the grade (Burges et al. 2005). The same for binary grades.

    Returns:
        float64 `[q]`, in [0, 1]; 0 where nothing has a grade above 0.
    """
    best = _dcg(-np.sort(-np.asarray(ideal, np.float64), axis=1), k, exponential)
    found = _dcg(np.asarray(grades, np.float64), k, exponential)
    return np.divide(found, best, out=np.zeros_like(found), where=best > 0)


def _dcg(grades: Array, k: int, exponential: bool) -> Array:
    first = grades[:, :k]
    gains = np.exp2(first) - 1 if exponential else first
    return np.asarray((gains / np.log2(np.arange(2, first.shape[1] + 2))).sum(axis=1), np.float64)


def binary_ndcg_at(relevance: np.ndarray, relevant: np.ndarray, k: int) -> Array:
    """nDCG@k of binary relevance, where the ideal list has `min(|R|, k)` ones first."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best = discounts.cumsum()[np.minimum(relevant, k) - 1]
    return np.asarray((relevance[:, :k] * discounts[: relevance.shape[1]]).sum(axis=1) / best, np.float64)


def query_metrics(relevance: np.ndarray, relevant: np.ndarray, ks: list[int]) -> dict[str, Array]:
    """Every metric of every query.

    Args:
        relevance: bool `[q, K]`; K is at least the largest cut-off or all there is.
        relevant: int `[q]`, |R| of each query, at least 1.
        ks: Cut-offs.

    Returns:
        `recall_at_k`, `hit_at_k`, `ndcg_at_k`, `map_at_k` for each k, and `mrr` within K places.
    """
    found = {"mrr": reciprocal_rank(relevance)}
    for k in ks:
        found[f"recall_at_{k}"] = recall_at(relevance, relevant, k)
        found[f"hit_at_{k}"] = hit_at(relevance, k)
        found[f"ndcg_at_{k}"] = binary_ndcg_at(relevance, relevant, k)
        found[f"map_at_{k}"] = average_precision_at(relevance, relevant, k)
    return found


def chance_recall(candidates: np.ndarray, k: int) -> Array:
    """Expected Recall@k of a random order of `candidates` `[q]` things: k / candidates."""
    return np.minimum(1.0, k / np.asarray(candidates, np.float64))


def chance_hit(candidates: np.ndarray, relevant: np.ndarray, k: int) -> Array:
    """Expected Hit@k of a random order: `1 - C(N - R, k) / C(N, k)`, one minus the chance of k misses in a row."""
    total, misses = np.asarray(candidates, np.float64), np.asarray(candidates - relevant, np.float64)
    missed = np.ones_like(total)
    for place in range(k):
        missed *= np.clip((misses - place) / np.maximum(total - place, 1.0), 0.0, None)
    return 1.0 - missed


def chance_reciprocal_rank(candidates: np.ndarray, relevant: np.ndarray, places: int) -> Array:
    """Expected reciprocal rank of a random order within `places`: `sum_r P(first relevant at r) / r`."""
    total = np.asarray(candidates, np.float64)
    missed, expected = np.ones_like(total), np.zeros_like(total)
    for place in range(places):
        hit = np.clip(relevant / np.maximum(total - place, 1.0), 0.0, 1.0)
        expected += np.where(total > place, missed * hit / (place + 1), 0.0)
        missed *= 1.0 - hit
    return expected
