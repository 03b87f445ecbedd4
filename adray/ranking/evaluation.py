"""Judging a ranker on held-out lists: collect its scores once, then compute every metric from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from adray.ranking.batch import RankingBatch
from adray.ranking.joint import JointRanker
from adray.ranking.list_metrics import ad_counts, exposure_calibration, selection_report
from adray.ranking.metrics import auc, gauc, log_loss, pcoc
from adray.ranking.pair_accuracy import JudgedPairs, judge_pairs, list_pairs, pair_accuracy, two_proportion_z

Array = npt.NDArray[Any]
_RESAMPLES = 500


@dataclass(frozen=True)
class HeldOutScores:
    """A ranker's scores on n lists with m candidates, beside what the log says of them.

    Attributes:
        offsets: int64 `[n + 1]`.
        users: int64 `[n]`, hashed; 0 where the log names none.
        skus: int64 `[n]`, hashed.
        creatives: int64 `[m]`, hashed.
        copies: int64 `[m]`, equal where two creatives have the same copy.
        exposed: int64 `[n]`; -1 for aggregated lists.
        clicked: float32 `[n]`; NaN for aggregated lists.
        propensity: float32 `[m]`; NaN where unknown.
        impressions: float32 `[m]`, counts of aggregated lists.
        clicks: float32 `[m]`, likewise.
        ad_probability: float32 `[n]`, the heavy half's click probability under the log's circumstances (position).
        click_logit: float32 `[m]`, the serving order; NaN without a light half.
        click_bias: float32 `[n]`, what circumstances add to click logits in the log.
        exposure_logit: float32 `[m]`; NaN without a light half.
    """

    offsets: Array
    users: Array
    skus: Array
    creatives: Array
    copies: Array
    exposed: Array
    clicked: Array
    propensity: Array
    impressions: Array
    clicks: Array
    ad_probability: Array
    click_logit: Array
    click_bias: Array
    exposure_logit: Array

    @property
    def single(self) -> Array:
        """bool `[n]`, lists with one exposed candidate and a known click."""
        return (self.exposed >= 0) & ~np.isnan(self.clicked)

    def exposed_probability(self) -> tuple[Array, Array]:
        """Label and the light half's click probability of the exposed candidate, over the single-exposure lists."""
        use = self.single
        rows = (self.offsets[:-1] + np.maximum(self.exposed, 0))[use]
        logit = self.click_logit[rows] + self.click_bias[use]
        return self.clicked[use], 1 / (1 + np.exp(-logit.astype(np.float64)))


def collect_scores(ranker: JointRanker, batches: Iterable[RankingBatch], *, historical: bool = True) -> HeldOutScores:
    """Score held-out lists.

    Args:
        ranker: The model; put into eval mode for the while.
        batches: The lists.
        historical: Feed the light half the historical CTR, as serving does, instead of the live ad score.
    """
    was_training, device = ranker.training, next(ranker.parameters()).device
    ranker.eval()
    parts: dict[str, list[Array]] = {name: [] for name in HeldOutScores.__annotations__ if name != "offsets"}
    lengths: list[Array] = []
    for batch in batches:
        found = ranker.scores(batch.to(device), historical=historical)
        rows, log = len(batch), batch.impressions
        lengths.append(log.candidates.lengths().numpy())
        nothing = torch.full((log.candidates.values.numel(),), float("nan"))
        ad = torch.logit(found.ad_probability.cpu().double(), eps=1e-9) + found.ad_bias.cpu()
        values = {
            "users": log.ids.get("user_id", torch.zeros(rows, dtype=torch.int64)),
            "skus": log.ids["sku_id"],
            "creatives": log.candidates.values,
            "copies": _copy_keys(batch)[batch.creative_index],
            "exposed": log.exposed,
            "clicked": log.clicked,
            "propensity": log.propensity,
            "impressions": log.impressions,
            "clicks": log.clicks,
            "ad_probability": ad.sigmoid().float(),
            "click_logit": nothing if found.click_logit is None else found.click_logit.cpu(),
            "click_bias": found.click_bias.cpu(),
            "exposure_logit": nothing if found.exposure_logit is None else found.exposure_logit.cpu(),
        }
        for name, value in values.items():
            parts[name].append(value.numpy())
    ranker.train(was_training)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths or [np.zeros(0, np.int64)]))]).astype(np.int64)
    return HeldOutScores(offsets=offsets, **{name: np.concatenate(found or [np.zeros(0)]) for name, found in parts.items()})


def _copy_keys(batch: RankingBatch) -> torch.Tensor:
    """int64 `[U]`, equal for creatives of the same copy: an order-free sum of their n-gram hashes."""
    ngrams = batch.creatives.ngrams
    # Squaring first keeps copies of the same sum apart; int64 wraps, which a hash may.
    return torch.zeros(len(batch.creatives), dtype=torch.int64).index_add_(
        0, ngrams.segments(), ngrams.values * ngrams.values + ngrams.values
    )


def evaluate(ranker: JointRanker, batches: Iterable[RankingBatch]) -> dict[str, float]:
    """All held-out metrics of a ranker; see `held_out_metrics`."""
    return held_out_metrics(collect_scores(ranker, batches), heavy=ranker.heavy is not None, light=ranker.light is not None)


def held_out_metrics(scores: HeldOutScores, *, heavy: bool = True, light: bool = True) -> dict[str, float]:
    """Metrics of both halves on held-out lists.

    Args:
        scores: Collected scores.
        heavy: Whether there is a heavy half: `ranker/ad_*`.
        light: Whether there is a light half: `ranker/click_*`, NSCTR and its kin, pair accuracy, exposure calibration.

    Returns:
        Flat metrics named `ranker/...`; those that the log cannot support are absent.
    """
    found: dict[str, float] = {}
    if scores.single.any():
        if heavy:
            found |= _pointwise("ad", scores.clicked[scores.single], scores.ad_probability[scores.single], scores.users[scores.single])
        if light:
            labels, probability = scores.exposed_probability()
            found |= _pointwise("click", labels, probability, scores.users[scores.single])
            found |= _selection(scores)
    if light and (scores.impressions > 0).any():
        accuracy = pair_accuracy(judge_copy_pairs(scores), resamples=_RESAMPLES)
        found |= accuracy.metrics()
        found |= {f"{name}_all": v for name, v in pair_accuracy(_judge_all(scores), resamples=_RESAMPLES).metrics().items()}
    return {f"ranker/{name}": value for name, value in found.items()}


def _pointwise(name: str, labels: Array, probability: Array, users: Array) -> dict[str, float]:
    found = {
        f"{name}_auc": auc(labels, probability),
        f"{name}_log_loss": log_loss(labels, probability),
        f"{name}_pcoc": pcoc(labels, probability),
    }
    if np.any(users != 0):
        grouped = gauc(labels, probability, users, resamples=_RESAMPLES)
        found |= grouped.value.metrics(f"{name}_gauc") | {f"{name}_gauc_share_left_out": grouped.share_left_out}
    return found


def _selection(scores: HeldOutScores) -> dict[str, float]:
    exposed = np.where(scores.single, scores.exposed, -1)
    report = selection_report(ad_counts(scores.click_logit, scores.offsets, exposed, scores.clicked, scores.skus), resamples=_RESAMPLES)
    calibration = exposure_calibration(scores.exposure_logit, scores.offsets, exposed, scores.propensity)
    return report.metrics() | calibration.metrics()


def _judge_all(scores: HeldOutScores) -> JudgedPairs:
    return judge_pairs(scores.click_logit, scores.offsets, scores.impressions, scores.clicks)


def judge_copy_pairs(scores: HeldOutScores) -> JudgedPairs:
    """Judge the pairs of aggregated lists whose copy differs.

    Two candidates of the same copy differ in their picture alone. Where the log does not bring pictures, no model can
    order them, so they say nothing of this one.
    """
    first, second = list_pairs(scores.offsets)
    judged = _judge_all(scores)
    z = two_proportion_z((scores.clicks[first], scores.clicks[second]), (scores.impressions[first], scores.impressions[second]))
    differs = (scores.copies[first] != scores.copies[second])[z != 0]
    return JudgedPairs(judged.z[differs], judged.correct[differs], judged.lists[differs])
