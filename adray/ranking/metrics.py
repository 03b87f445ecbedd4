"""How good click probabilities are: AUC, GAUC, log loss, PCOC and calibration, over NumPy arrays.

Every function takes one entry per impression (or per exposed candidate) and treats equal scores as what they are, ties,
so that no figure depends on the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from adray.bootstrap import Interval, ratio_interval, weighted_interval
from adray.errors import DataError

Array = npt.NDArray[Any]

# A float32 sigmoid saturates at 1 - 6e-8; clipping there keeps the log loss finite without hiding a wrong certainty.
_SMALLEST_PROBABILITY = 1e-7


def finite(values: npt.ArrayLike, name: str) -> Array:
    """Return `values` as float64, refusing NaN and infinity.

    Args:
        values: Numbers, any shape.
        name: What to call them in the error.

    Raises:
        DataError: If a value is not finite; the first one's row is named.
    """
    array = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise DataError(
            f"{name} is {array.reshape(-1)[bad[0]]} at row {bad[0]} ({bad.size} of {array.size} rows are not finite)",
            "a model that returns such values has diverged: lower its learning rate, or drop these rows",
        )
    return array


class _TieRuns:
    """Rows sorted by (group, score) and cut into runs of equal score, so that weighted AUCs need no further sort."""

    def __init__(self, labels: npt.ArrayLike, scores: npt.ArrayLike, groups: Array | None = None) -> None:
        scores = finite(scores, "score")
        self.labels = finite(labels, "label")
        groups = np.zeros(scores.size, dtype=np.int64) if groups is None else groups
        self.order = np.lexsort((scores, groups))
        sorted_scores, sorted_groups = scores[self.order], groups[self.order]
        new_group = np.diff(sorted_groups, prepend=sorted_groups[:1]) != 0
        new_run = (np.diff(sorted_scores, prepend=sorted_scores[:1]) != 0) | new_group
        self.run = np.cumsum(new_run)
        self.group_of_run = sorted_groups[np.concatenate(([True], new_run[1:]))] if scores.size else np.zeros(0, np.int64)

    def auc(self, weights: Array | None = None) -> tuple[Array, Array, Array]:
        """AUC, positive weight and negative weight of every group (`[number of groups]` each; AUC is NaN where undefined)."""
        weights = np.ones(self.labels.size) if weights is None else weights
        ones = (weights * self.labels)[self.order]
        zeros = (weights * (1 - self.labels))[self.order]
        runs, groups = self.group_of_run.size, int(self.group_of_run.max(initial=-1)) + 1
        positive, negative = np.bincount(self.run, ones, runs), np.bincount(self.run, zeros, runs)
        group_positive = np.bincount(self.group_of_run, positive, groups)
        group_negative = np.bincount(self.group_of_run, negative, groups)
        # Mann-Whitney: a positive beats every negative below it and half of those it ties with.
        before = np.cumsum(negative) - negative - (np.cumsum(group_negative) - group_negative)[self.group_of_run]
        wins = np.bincount(self.group_of_run, positive * (before + negative / 2), groups)
        pairs = group_positive * group_negative
        return np.divide(wins, pairs, out=np.full(groups, np.nan), where=pairs > 0), group_positive, group_negative


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: Array | None = None) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, a tie counting one half.

    This is the Mann-Whitney U statistic over (positives x negatives), computed in O(n log n).

    Args:
        labels: `[n]`, 0 or 1.
        scores: `[n]`, any finite scale.
        weights: `[n]`, how often each row counts; all once when None.

    Returns:
        A value in [0, 1]; NaN when one of the two labels is missing.

    Raises:
        DataError: If a score or label is not finite.
    """
    if np.size(scores) == 0:
        return float("nan")
    return float(_TieRuns(labels, scores).auc(weights)[0][0])


def auc_interval(labels: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike, *, resamples: int = 200, seed: int = 0) -> Interval:
    """AUC with a percentile bootstrap interval over whole groups, e.g. users.

    Args:
        labels: `[n]`, 0 or 1.
        scores: `[n]`.
        groups: `[n]`, ids of the units that are drawn with replacement; rows of one user are not independent.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.
    """
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    runs = _TieRuns(labels, scores)
    count = int(codes.max(initial=-1)) + 1
    return weighted_interval(lambda weights: float(runs.auc(weights[codes])[0][0]), count, resamples=resamples, seed=seed)


@dataclass(frozen=True)
class GroupedAuc:
    """GAUC and what it could not use.

    Attributes:
        value: Impression-weighted mean of the groups' AUCs with its bootstrap interval over groups.
        groups_used: Groups that hold both labels.
        share_left_out: Share of impressions in groups that hold one label only and so say nothing of order, in [0, 1].
    """

    value: Interval
    groups_used: int
    share_left_out: float


def gauc(labels: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0) -> GroupedAuc:
    """Impression-weighted mean over groups (users) of the AUC within the group.

    As in Zhu et al., "Optimized Cost per Click in Taobao Display Advertising" (KDD 2017), section 4: groups without both
    labels are left out; their share is reported.

    Args:
        labels: `[n]`, 0 or 1.
        scores: `[n]`.
        groups: `[n]`, ids, usually of users.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.

    Raises:
        DataError: If a score or label is not finite.
    """
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    values, positive, negative = _TieRuns(labels, scores, codes).auc()
    used = np.isfinite(values)
    rows = (positive + negative)[used]
    left_out = 1 - rows.sum() / codes.size if codes.size else float("nan")
    return GroupedAuc(ratio_interval(rows * values[used], rows, resamples=resamples, seed=seed), int(used.sum()), float(left_out))


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean negative log likelihood of binary labels, in nats.

    Args:
        labels: `[n]`, 0 or 1.
        probabilities: `[n]`, chance of label 1; clipped to [1e-7, 1 - 1e-7].

    Returns:
        A value >= 0; NaN for no rows.
    """
    y = finite(labels, "label")
    p = np.clip(finite(probabilities, "probability"), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))) if y.size else float("nan")


def pcoc(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Predicted clicks over observed clicks; 1 is calibrated, above 1 promises too much. NaN when nothing was clicked."""
    clicks = finite(labels, "label").sum()
    return float(finite(probabilities, "probability").sum() / clicks) if clicks > 0 else float("nan")


@dataclass(frozen=True)
class CalibrationTable:
    """Predicted against observed click rates in bins of about equally many rows, lowest predictions first.

    Attributes:
        predicted: `[bins]`, mean predicted probability.
        observed: `[bins]`, share of clicks.
        low: `[bins]`, lower end of the 95 % Wilson score interval of `observed`.
        high: `[bins]`, upper end.
        rows: int64 `[bins]`.
        expected_error: Row-weighted mean of |predicted - observed| (expected calibration error).
    """

    predicted: Array
    observed: Array
    low: Array
    high: Array
    rows: Array
    expected_error: float


def calibration_table(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10) -> CalibrationTable:
    """Compare predictions with outcomes bin by bin.

    Equal predictions always share a bin, so bins may be fewer than asked for and of unequal size. Equal-mass bins are used
    because click probabilities crowd near zero, where equal-width bins would put nearly every row into the first.

    Args:
        labels: `[n]`, 0 or 1.
        probabilities: `[n]`, in [0, 1].
        bins: Largest number of bins.

    Raises:
        DataError: If a value is not finite.
    """
    y, p = finite(labels, "label"), finite(probabilities, "probability")
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1])) if y.size else np.zeros(0)
    of_row = np.searchsorted(edges, p, side="right")
    filled, of_row = np.unique(of_row, return_inverse=True)
    rows = np.bincount(of_row, minlength=filled.size)
    predicted, observed = np.bincount(of_row, p) / rows, np.bincount(of_row, y) / rows
    low, high = wilson_interval(observed, rows)
    error = float(np.sum(rows * np.abs(predicted - observed)) / y.size) if y.size else float("nan")
    return CalibrationTable(predicted, observed, low, high, rows, error)


def wilson_interval(rate: Array, trials: Array, z: float = 1.959964) -> tuple[Array, Array]:
    """Wilson's (1927) score interval of a binomial rate; it stays inside [0, 1] even for few clicks.

    Args:
        rate: Observed rates, any shape.
        trials: Number of trials of each, > 0.
        z: Normal quantile; 1.96 for 95 %.
    """
    centre = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return centre - half, centre + half
