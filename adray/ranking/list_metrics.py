"""How good the choice within an impression's candidates is: sCTR, NSCTR and the exposure head's calibration.

Lists are flat: candidate rows of all impressions one after the other, list i being rows `offsets[i]:offsets[i + 1]`.

**Ties.** Where several candidates share the best score they share the credit: each counts as chosen with weight 1 / ties.
That is the expected outcome of breaking the tie at random, so it does not depend on the order of rows or on how ids are
hashed, and a constant model gets exactly the value of the uniform policy instead of that of whatever came first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from adray.bootstrap import Interval, ratio_interval
from adray.errors import DataError
from adray.ranking.metrics import finite

Array = npt.NDArray[Any]
Fallback = Literal["logged", "drop"]


def check_offsets(offsets: npt.ArrayLike, rows: int) -> Array:
    """Return list offsets as int64 after making sure that they cut `rows` rows into lists that are not empty.

    Raises:
        DataError: If they do not start at 0, do not end at `rows`, or hold an empty list.
    """
    array = np.asarray(offsets, dtype=np.int64)
    if array.ndim != 1 or array.size == 0 or array[0] != 0 or array[-1] != rows:
        raise DataError(f"list offsets do not cover the {rows} candidate rows", "scores and candidates must come from the same batch")
    empty = np.flatnonzero(np.diff(array) <= 0)
    if empty.size:
        raise DataError(f"list {empty[0]} has no candidates ({empty.size} such lists)", "remove impressions without candidates")
    return array


def list_ids(offsets: Array) -> Array:
    """int64 `[m]`, the list that each candidate row belongs to."""
    return np.repeat(np.arange(offsets.size - 1), np.diff(offsets))


def choice_weights(scores: npt.ArrayLike, offsets: npt.ArrayLike) -> Array:
    """How much each candidate is the list's choice: 1 for the single best score, 1 / ties for tied ones, else 0.

    Args:
        scores: `[m]`, finite.
        offsets: int64 `[n + 1]`.

    Returns:
        float64 `[m]`, summing to 1 in every list.

    Raises:
        DataError: If a score is not finite or the offsets do not fit.
    """
    values = finite(scores, "score")
    cuts = check_offsets(offsets, values.size)
    if values.size == 0:
        return values
    lists = list_ids(cuts)
    best = (values == np.maximum.reduceat(values, cuts[:-1])[lists]).astype(np.float64)
    return best / np.add.reduceat(best, cuts[:-1])[lists]


def list_softmax(logits: npt.ArrayLike, offsets: npt.ArrayLike) -> Array:
    """Softmax within every list, float64 `[m]`."""
    values = finite(logits, "logit")
    cuts = check_offsets(offsets, values.size)
    if values.size == 0:
        return values
    lists = list_ids(cuts)
    exponentials = np.exp(values - np.maximum.reduceat(values, cuts[:-1])[lists])
    return exponentials / np.add.reduceat(exponentials, cuts[:-1])[lists]


@dataclass(frozen=True)
class AdCounts:
    """What the replay of a policy on a log found for each ad; float64 `[ads]` each.

    Attributes:
        impressions: Logged impressions (`Imp_m`).
        clicks: Logged clicks.
        matched_impressions: Impressions whose exposed candidate is the policy's choice (`Imp^s_m`); ties count in parts.
        matched_clicks: Clicks among those (`Clk^s_m`).
    """

    impressions: Array
    clicks: Array
    matched_impressions: Array
    matched_clicks: Array


def ad_counts(
    scores: npt.ArrayLike, offsets: npt.ArrayLike, exposed: npt.ArrayLike, clicked: npt.ArrayLike, ads: npt.ArrayLike
) -> AdCounts:
    """Replay "show the best score" on a log of exposures.

    Args:
        scores: `[m]`, one per candidate.
        offsets: int64 `[n + 1]`.
        exposed: int64 `[n]`, index of the exposed candidate within its list; lists with -1 (aggregated) are skipped.
        clicked: `[n]`, 0 or 1.
        ads: `[n]`, the ad (SKU) of each impression.

    Raises:
        DataError: If a score is not finite, an exposed index lies outside its list, or the offsets do not fit.
    """
    chosen = choice_weights(scores, offsets)
    cuts = check_offsets(offsets, chosen.size)
    shown = np.asarray(exposed, dtype=np.int64)
    use = shown >= 0
    outside = np.flatnonzero(shown >= np.diff(cuts))
    if outside.size:
        raise DataError(f"exposed index {shown[outside[0]]} lies outside list {outside[0]}", "read the impressions through adray.data")
    matched = chosen[(cuts[:-1] + shown)[use]]
    click = finite(np.asarray(clicked, dtype=np.float64)[use], "clicked")
    names, ad = np.unique(np.asarray(ads)[use], return_inverse=True)
    return AdCounts(*(np.bincount(ad, weights, names.size) for weights in (np.ones(ad.size), click, matched, matched * click)))


def sctr(counts: AdCounts) -> float:
    """Click rate of the impressions where the policy's choice was shown: `sum Clk^s_m / sum Imp^s_m`; NaN without a match."""
    matched = counts.matched_impressions.sum()
    return float(counts.matched_clicks.sum() / matched) if matched > 0 else float("nan")


def nsctr(counts: AdCounts, fallback: Fallback = "logged") -> float:
    """Normalised sCTR: each ad's matched click rate, weighted by the ad's logged impressions.

    Peri-CR (Yang et al., AAAI 2024, arXiv 2312.12750), algorithm 1. It is the replay estimate post-stratified by ad, so a
    policy cannot win by matching more often on ads with few candidates or many clicks.

    Args:
        counts: The replay's counts.
        fallback: What an ad without a match counts as, which the paper leaves open. `logged`: its logged click rate (as the
            authors' script does). `drop`: it is left out of both sums.

    Returns:
        A click rate in [0, 1]; NaN when nothing is left to weigh.
    """
    numerators, denominators = _nsctr_terms(counts, fallback)
    return float(numerators.sum() / denominators.sum()) if denominators.sum() > 0 else float("nan")


def _nsctr_terms(counts: AdCounts, fallback: Fallback) -> tuple[Array, Array]:
    matched = counts.matched_impressions > 0
    rate = np.divide(counts.matched_clicks, counts.matched_impressions, out=np.zeros(matched.size), where=matched)
    if fallback == "drop":
        return np.where(matched, rate * counts.impressions, 0.0), np.where(matched, counts.impressions, 0.0)
    return np.where(matched, rate * counts.impressions, counts.clicks), counts.impressions


@dataclass(frozen=True)
class SelectionReport:
    """Replay metrics of creative selection, intervals drawn over ads.

    Attributes:
        sctr: Click rate where the choice was shown.
        nsctr: NSCTR, ads without a match counting their logged click rate.
        nsctr_drop: NSCTR over ads with a match only.
        match_rate: Share of impressions where the choice was shown.
        fallback_share: Share of impressions of ads without any match.
        logged_ctr: Click rate of the log.
        ads: Number of ads.
        impressions: Number of impressions.
    """

    sctr: Interval
    nsctr: Interval
    nsctr_drop: Interval
    match_rate: float
    fallback_share: float
    logged_ctr: float
    ads: int
    impressions: int

    def metrics(self) -> dict[str, float]:
        """All figures as flat metrics."""
        flat = self.sctr.metrics("sctr") | self.nsctr.metrics("nsctr") | self.nsctr_drop.metrics("nsctr_drop")
        names = ("match_rate", "fallback_share", "logged_ctr", "ads", "impressions")
        return flat | {name: float(getattr(self, name)) for name in names}


def selection_report(counts: AdCounts, *, resamples: int = 1000, seed: int = 0) -> SelectionReport:
    """Summarise a replay, with percentile bootstrap intervals over ads.

    Args:
        counts: The replay's counts.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.
    """
    total = counts.impressions.sum()
    unmatched = counts.matched_impressions == 0

    def interval(numerators: Array, denominators: Array) -> Interval:
        return ratio_interval(numerators, denominators, resamples=resamples, seed=seed)

    return SelectionReport(
        sctr=interval(counts.matched_clicks, counts.matched_impressions),
        nsctr=interval(*_nsctr_terms(counts, "logged")),
        nsctr_drop=interval(*_nsctr_terms(counts, "drop")),
        match_rate=_share(counts.matched_impressions.sum(), total),
        fallback_share=_share(counts.impressions[unmatched].sum(), total),
        logged_ctr=_share(counts.clicks.sum(), total),
        ads=counts.impressions.size,
        impressions=int(total),
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


@dataclass(frozen=True)
class ExposureCalibration:
    """How well the exposure head knows the logging policy.

    Attributes:
        log_loss: Mean of `-log pi_e` of the exposed candidate under the head, in nats.
        propensity_log_loss: The same under the logged propensities: the best any head can expect. NaN where not logged.
        correlation: Pearson correlation of the head with the logged propensities over candidates. NaN where not logged.
        mean_absolute_error: Mean of `|pi - propensity|` over candidates. NaN where not logged.
    """

    log_loss: float
    propensity_log_loss: float
    correlation: float
    mean_absolute_error: float

    def metrics(self) -> dict[str, float]:
        """All figures as flat metrics."""
        return {f"exposure_{name}": value for name, value in vars(self).items()}


def exposure_calibration(
    logits: npt.ArrayLike, offsets: npt.ArrayLike, exposed: npt.ArrayLike, propensity: npt.ArrayLike
) -> ExposureCalibration:
    """Compare the exposure head's softmax with what was shown and with the logged propensities.

    Lists of one candidate are left out: whatever the head says, its softmax is 1.

    Args:
        logits: `[m]`, the exposure head's.
        offsets: int64 `[n + 1]`.
        exposed: int64 `[n]`; lists with -1 are left out.
        propensity: `[m]`, the logger's probability of each candidate; NaN where unknown.

    Raises:
        DataError: If a logit is not finite or the offsets do not fit.
    """
    probability = np.maximum(list_softmax(logits, offsets), np.finfo(np.float64).tiny)
    cuts = check_offsets(offsets, probability.size)
    shown, logged = np.asarray(exposed, dtype=np.int64), np.asarray(propensity, dtype=np.float64)
    use = (shown >= 0) & (np.diff(cuts) > 1)
    rows = (cuts[:-1] + shown)[use]
    if rows.size == 0:
        return ExposureCalibration(*[float("nan")] * 4)
    known = np.isfinite(logged) & use[list_ids(cuts)]
    with np.errstate(divide="ignore"):
        logged_loss = float(-np.log(logged[rows]).mean())
    head, truth = probability[known], logged[known]
    varies = head.size > 1 and head.std() > 0 and truth.std() > 0
    return ExposureCalibration(
        log_loss=float(-np.log(probability[rows]).mean()),
        propensity_log_loss=logged_loss,
        correlation=float(np.corrcoef(head, truth)[0, 1]) if varies else float("nan"),
        mean_absolute_error=float(np.abs(head - truth).mean()) if head.size else float("nan"),
    )
