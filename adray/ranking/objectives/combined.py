"""The light half's loss: the configured objective's terms, each over the lists it applies to, weighted and summed."""

from __future__ import annotations

import torch
from torch import Tensor

from adray.data.batch import ImpressionBatch
from adray.ranking.batch import RankingBatch
from adray.ranking.config import ObjectiveConfig
from adray.ranking.creative import LightOutput
from adray.ranking.objectives.aggregated import binomial_loss, multinomial_loss
from adray.ranking.objectives.distillation import clid_loss
from adray.ranking.objectives.jrc import jrc_loss
from adray.ranking.objectives.listwise import click_list_loss, exposure_loss, smoothed_ctr, vam_list_loss, vam_point_loss
from adray.ranking.objectives.pointwise import click_loss
from adray.ranking.ragged import Lists, list_mean, rows_of, segment_sum
from adray.ranking.tables import column

Terms = dict[str, tuple[float, Tensor]]


def single_exposures(batch: ImpressionBatch) -> Tensor:
    """Which lists show exactly one candidate and know whether it was clicked, bool `[n]`."""
    return (batch.exposed >= 0) & ~batch.clicked.isnan()


class LightObjective:
    """Computes the light half's loss.

    Args:
        config: Objective and weights.
        model_exposure: Train the exposure head under every objective. Costs nothing where that head shapes nothing else, and
            every ranker then exports propensities.

    Attributes:
        learns_policy: Whether the exposure head is trained.
    """

    def __init__(self, config: ObjectiveConfig, *, model_exposure: bool = False) -> None:
        self.config = config
        self.learns_policy = model_exposure or config.name in ("listwise", "listwise_click")

    def __call__(
        self, output: LightOutput, teacher: Tensor | None, batch: RankingBatch, lists: Lists, bias: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the weighted terms of a batch.

        Args:
            output: Logits of the m candidates.
            teacher: `[m]`, the teacher's click logits; only CLID has one.
            batch: n lists: single exposures, aggregated lists, or both.
            lists: Their shape.
            bias: `[n]`, what position and the like add to logged click logits.

        Returns:
            The scalar loss, and each term (detached, not weighted).
        """
        single = single_exposures(batch.impressions)
        terms: Terms = {}
        if bool(single.any()):
            terms |= self._single(output, teacher, batch, lists, bias, single)
        if not bool(single.all()):
            terms |= self._aggregated(output, batch.impressions, lists, ~single)
        # Keeps the graph whole when no term applies.
        start = 0.0 * output.click.sum()
        loss = sum((weight * term for weight, term in terms.values()), start)
        return loss, {name: term.detach() for name, (_, term) in terms.items()}

    def _single(
        self, output: LightOutput, teacher: Tensor | None, batch: RankingBatch, lists: Lists, bias: Tensor, single: Tensor
    ) -> Terms:
        config, name = self.config, self.config.name
        clicked = torch.where(single, batch.impressions.clicked, 0.0)
        rows = batch.impressions.exposed_rows()
        ordered = single & lists.ordered
        terms: Terms = {}
        if self.learns_policy:
            terms["exposure"] = (config.exposure_weight, list_mean(exposure_loss(output.exposure, lists, rows), ordered))
        if name == "vam":
            return terms | self._vam(output, batch, lists, single)
        if name == "jrc":
            return terms | {"jrc": (1.0, self._jrc(output, batch, rows[single], clicked[single], bias[single], single))}
        click = output.click + bias[lists.segments]
        terms["click"] = (1.0, list_mean(click_loss(click[rows], clicked), single))
        if name == "listwise_click":
            policy = log_policy(output.exposure, batch.impressions.propensity, lists)
            losses = click_list_loss(policy, click, clicked, lists, rows)
            terms["click_list"] = (config.click_list_weight, list_mean(losses, ordered))
        if teacher is not None:
            terms["teacher"] = (1.0, list_mean(click_loss(teacher[rows] + bias, clicked), single))
            terms["clid"] = (config.clid_weight, list_mean(clid_loss(output.click, teacher, lists), ordered))
        return terms

    def _vam(self, output: LightOutput, batch: RankingBatch, lists: Lists, single: Tensor) -> Terms:
        config, counts = self.config, batch.creatives
        ctr = smoothed_ctr(counts.impressions, counts.clicks, config.vam_alpha, config.vam_beta)[batch.creative_index]
        return self._vam_terms(output, ctr, lists, single)

    def _vam_terms(self, output: LightOutput, ctr: Tensor, lists: Lists, counted: Tensor) -> Terms:
        config = self.config
        return {
            "vam_list": (1.0, list_mean(vam_list_loss(output.click, ctr, lists, config.vam_temperature), counted & lists.ordered)),
            "vam_point": (config.vam_pointwise_weight, list_mean(vam_point_loss(output.click, ctr, lists), counted)),
        }

    def _jrc(self, output: LightOutput, batch: RankingBatch, rows: Tensor, clicked: Tensor, bias: Tensor, single: Tensor) -> Tensor:
        classes = rows_of(output.classes, rows)
        classes = torch.stack([classes[:, 0], classes[:, 1] + bias], dim=1)
        sessions = column(batch.impressions.ids, self.config.jrc_session, "id", batch.impressions)[single]
        return jrc_loss(classes, clicked, sessions, self.config.jrc_alpha).mean()

    def _aggregated(self, output: LightOutput, batch: ImpressionBatch, lists: Lists, counted: Tensor) -> Terms:
        config = self.config
        # Candidates of other lists weigh nothing.
        inside = counted[lists.segments]
        impressions, clicks = torch.where(inside, batch.impressions, 0.0), torch.where(inside, batch.clicks, 0.0)
        if config.aggregated == "vam":
            shown = segment_sum(impressions, lists.segments, len(lists)) > 0
            return self._vam_terms(output, smoothed_ctr(impressions, clicks, config.vam_alpha, config.vam_beta), lists, shown)
        if config.aggregated == "binomial":
            losses, total = binomial_loss(output.click, impressions, clicks, lists), impressions.sum()
        else:
            losses, total = multinomial_loss(output.click, impressions, clicks, lists), clicks.sum()
        # Per impression or per click: the scale does not depend on how long the tests ran.
        return {config.aggregated: (1.0, losses.sum() / total.clamp(min=1.0))}


def log_policy(exposure: Tensor, propensity: Tensor, lists: Lists) -> Tensor:
    """Log of the logging policy, up to a constant per list: logged propensities where a list has them all, else the head's.

    The within-list click term mistakes every error of the policy for a difference in clicks, so the truth is used where it
    is known.

    Args:
        exposure: `[m]`, the exposure head's logits.
        propensity: `[m]`, logged propensities; NaN where unknown.
        lists: n lists over the m items.

    Returns:
        Float32 `[m]`.
    """
    known = propensity > 0
    complete = segment_sum((~known).long(), lists.segments, len(lists)) == 0
    return torch.where(complete[lists.segments], torch.where(known, propensity, 1.0).log(), exposure)
