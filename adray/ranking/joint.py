"""Both halves in one graph: trained together, cut apart at export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.errors import ConfigError
from adray.ranking.batch import RankingBatch
from adray.ranking.catalogue import Catalogue
from adray.ranking.config import FeatureConfig, RankerModelConfig
from adray.ranking.creative import CreativeRanker, LightOutput
from adray.ranking.objectives.combined import LightObjective, log_policy, single_exposures
from adray.ranking.objectives.offset import shown_offset
from adray.ranking.objectives.pointwise import click_loss
from adray.ranking.quantiser import AdScoreEmbedding
from adray.ranking.ragged import Lists, list_mean, rows_of, segment_sum
from adray.ranking.sku_table import SkuTable
from adray.ranking.tables import HashedTable, Rows, TableGroup, column
from adray.ranking.user_sku import UserSkuRanker
from adray.training.module import TrainModule


@dataclass(frozen=True)
class RankingScores:
    """What the ranker says of n impressions with m candidates; float32, as served, i.e. without the log's `bias`.

    Attributes:
        ad_probability: `[n]`, click probability of the ad: the heavy half's, or the historical CTR without one.
        click_logit: `[m]`, click logit of each candidate: the serving order. None without a light half.
        exposure_logit: `[m]`, logits of the modelled logging policy, never an order. None without a light half.
        ad_bias: `[n]`, what position and the like add to the ad's logit in the log.
        click_bias: `[n]`, the same for click logits.
    """

    ad_probability: Tensor
    click_logit: Tensor | None
    exposure_logit: Tensor | None
    ad_bias: Tensor
    click_bias: Tensor


class JointRanker(TrainModule):
    """The heavy and the light half, and the loss that trains both (JAC, AAAI 2024).

    Args:
        config: The model.
        catalogue: Creatives; their vectors are computed at export.
        skus: Number boundaries, and the SKU features and histories that are exported.
        lineage: Where its tables came from; written into its artifacts.

    Raises:
        ConfigError: If the model wants a creative source that the catalogue has not.
    """

    def __init__(self, config: RankerModelConfig, catalogue: Catalogue, skus: SkuTable, lineage: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        check_sources(config, catalogue)
        self.config, self.catalogue, self.skus, self.lineage = config, catalogue, skus, dict(lineage or {})
        start_logit = float(np.log(skus.global_ctr / (1 - skus.global_ctr))) if 0 < skus.global_ctr < 1 else 0.0
        self.heavy = UserSkuRanker(config.heavy, skus.boundaries, start_logit) if config.heavy else None
        self.ad_bias = LogBias(config.bias) if config.bias and config.heavy else None
        self.light: CreativeRanker | None = None
        self.teacher: TeacherHead | None = None
        self.click_bias: LogBias | None = None
        if config.light is not None:
            # VAM's scores and delta's increments are no click logits, so they start at zero.
            started = config.objective.delta or config.objective.name == "vam"
            self.light = CreativeRanker(
                config.light,
                skus.boundaries,
                catalogue.content_dim,
                delta=config.objective.delta,
                start_logit=0.0 if started else start_logit,
            )
            self.click_bias = LogBias(config.bias) if config.bias else None
            if config.objective.name == "clid" and self.heavy is not None:
                self.teacher = TeacherHead(self.heavy.hidden_width, config.light.creative.dim)
        own_head = config.light is not None and config.light.exposure_head == "own"
        self.objective = LightObjective(config.objective, model_exposure=own_head)

    def forward(self, batch: RankingBatch) -> dict[str, Tensor]:
        """The weighted loss of both halves, and its terms as means over the lists each applies to."""
        weights, lists = self.config.objective, batch.lists()
        loss = batch.ad_history.new_zeros(())
        terms: dict[str, Tensor] = {}
        probability, ad, offset = batch.ad_history, None, batch.ad_history.new_zeros(())
        if self.heavy is not None:
            ad = self.heavy(batch.impressions)
            probability = self._light_input(ad.logit, batch)
        if self.light is not None:
            side = self.light.user_side(batch.impressions) + self.light.sku_side(batch.impressions)
            vectors = self.light.encoder(batch.creatives)
            tiers = self.light.tiers(batch.creatives.content, batch.candidate_rows(), batch.clicked)
            output = self.light.score(side, probability, vectors, batch.creative_index, lists.segments, tiers)
            teacher = None
            if self.teacher is not None and ad is not None:
                teacher = self.teacher(ad.hidden, self.light.encoder.content_part(vectors), batch.creative_index, lists.segments)
            light_loss, terms = self.objective(output, teacher, batch, lists, _bias(self.click_bias, batch))
            loss = loss + weights.light_weight * light_loss
            offset = self._offset(output, batch, lists)
        if ad is not None:
            terms["ad"] = ad_loss(ad.logit + offset + _bias(self.ad_bias, batch), batch, lists)
            loss = loss + weights.ad_weight * terms["ad"]
        return {"loss": loss, **{f"loss/{name}": term.detach() for name, term in terms.items()}}

    def scores(self, batch: RankingBatch, *, historical: bool = False) -> RankingScores:
        """Score a batch without gradients; the module's mode (train or eval) is left as it is.

        Args:
            batch: n lists.
            historical: Feed the light half the historical CTR, as serving does, instead of the live ad score.
        """
        with torch.no_grad():
            probability = batch.ad_history if self.heavy is None else self.heavy(batch.impressions).logit.sigmoid()
            click = exposure = None
            if self.light is not None:
                fed = batch.ad_history if historical or not self.config.joint else probability
                output = self.light(batch.impressions, batch.creatives, batch.candidate_rows(), fed, batch.clicked)
                click, exposure = output.click, output.exposure
            return RankingScores(probability, click, exposure, _bias(self.ad_bias, batch), _bias(self.click_bias, batch))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Embedding tables, with their own learning rate when one is configured, and the rest."""
        tables: dict[int, nn.Parameter] = {}
        for module in self.modules():
            if isinstance(module, (HashedTable, TableGroup, AdScoreEmbedding)):
                tables[id(module.weight)] = module.weight
        rest = [p for p in self.parameters() if id(p) not in tables]
        own: dict[str, Any] = {} if self.config.table_lr is None else {"lr": self.config.table_lr}
        return [{"params": list(tables.values()), **own}, {"params": rest}]

    def evaluate(self, batches: Iterable[RankingBatch]) -> dict[str, float]:
        """Held-out metrics; see `adray.ranking.evaluation`."""
        from adray.ranking.evaluation import evaluate

        return evaluate(self, batches)

    def export(self, folder: Path) -> None:
        """Write `folder/light` and `folder/heavy`, those of the two halves that exist."""
        from adray.ranking.export import export_heavy, export_light

        if self.light is not None:
            export_light(self, folder / "light", lineage=self.lineage)
        if self.heavy is not None:
            export_heavy(self, folder / "heavy", lineage=self.lineage)

    def _offset(self, output: LightOutput, batch: RankingBatch, lists: Lists) -> Tensor:
        """What the shown creative adds to the ad's logit, `[n]`; 0 where the halves share nothing or nothing single was shown."""
        config, rows = self.config, batch.impressions
        usable = self.objective.learns_policy and config.objective.name != "vam"
        if not config.joint or not config.objective.creative_offset or not usable:
            return torch.zeros_like(batch.ad_history)
        offset = shown_offset(log_policy(output.exposure, rows.propensity, lists), output.click, lists, rows.exposed_rows())
        return torch.where(single_exposures(rows), offset, 0.0)

    def _light_input(self, ad_logit: Tensor, batch: RankingBatch) -> Tensor:
        """The ad score that the light half is fed: live, historical for a share of rows, or all historical."""
        config = self.config
        if not config.joint or config.light is None:
            return batch.ad_history
        live = ad_logit.sigmoid()
        if not self.training or config.light.historical_share == 0:
            return live
        replaced = torch.rand(live.shape, device=live.device) < config.light.historical_share
        return torch.where(replaced, batch.ad_history, live)


class LogBias(nn.Module):
    """What circumstances such as the position add to logged clicks; absent when serving.

    The batch's mean is taken out, so that the model without it stands for the average circumstance, as the historical CTR does.

    Args:
        fields: Id fields.
    """

    def __init__(self, fields: list[FeatureConfig]) -> None:
        super().__init__()
        self.names = [f.name for f in fields]
        self.tables = nn.ModuleList(HashedTable(f.rows, 1) for f in fields)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, rows: Rows) -> Tensor:
        """Additive logits, `[n]`. A column that is absent counts in training as an error, otherwise as no circumstance."""
        total = torch.zeros(len(rows), device=next(self.parameters()).device)
        for name, table in zip(self.names, self.tables, strict=True):
            if self.training or name in rows.ids:
                total = total + table(column(rows.ids, name, "id", rows)).squeeze(1).float()
        return total - total.mean()


class TeacherHead(nn.Module):
    """Click logit of every candidate from the heavy trunk and the creative vector: CLID's teacher, not served.

    Args:
        hidden: Width of the heavy trunk's last hidden layer.
        creative: Width of the creative vector.
    """

    def __init__(self, hidden: int, creative: int, width: int = 64) -> None:
        super().__init__()
        self.taste = nn.Linear(hidden, creative)
        self.from_hidden = nn.Linear(hidden, width)
        self.from_creative = nn.Linear(2 * creative, width, bias=False)
        self.out = nn.Linear(width, 1)

    def forward(self, hidden: Tensor, creatives: Tensor, creative_index: Tensor, segments: Tensor) -> Tensor:
        """Logits float32 `[m]` from `hidden [n, hidden]` and `creatives [U, creative]`."""
        vectors = rows_of(creatives, creative_index)
        pair = torch.cat([vectors, vectors * rows_of(self.taste(hidden), segments)], dim=1)
        return self.out(F.relu(rows_of(self.from_hidden(hidden), segments) + self.from_creative(pair))).squeeze(1).float()


def ad_loss(logit: Tensor, batch: RankingBatch, lists: Lists) -> Tensor:
    """Click loss of the ad, scalar: per single exposure, or per impression of aggregated lists, averaged over both."""
    rows = batch.impressions
    single = single_exposures(rows)
    if bool(single.all()):
        return click_loss(logit, rows.clicked).mean()
    loss = list_mean(click_loss(logit, torch.where(single, rows.clicked, 0.0)), single)
    counts, clicks = (segment_sum(x, lists.segments, len(lists)) for x in (rows.impressions, rows.clicks))
    counts, clicks = torch.where(single, 0.0, counts), torch.where(single, 0.0, clicks)
    grouped = -clicks * F.logsigmoid(logit) - (counts - clicks) * F.logsigmoid(-logit)
    return loss + grouped.sum() / counts.sum().clamp(min=1.0)


def check_sources(config: RankerModelConfig, catalogue: Catalogue) -> None:
    """Refuse a creative source that the catalogue cannot feed.

    Raises:
        ConfigError: Naming the source.
    """
    if config.light is None:
        return
    source = config.light.creative
    if source.content is not None and catalogue.content_dim == 0:
        raise ConfigError("model.light.creative.content is set but there is no embeddings table", "set data.embeddings or drop it")
    if config.light.simtier is not None and catalogue.content_dim == 0:
        raise ConfigError("model.light.simtier is set but there is no embeddings table", "set data.embeddings or drop it")
    held = {"elements": catalogue.elements, "copy_ngrams": catalogue.ngrams, "attributes": catalogue.attributes}
    for name, values in held.items():
        if getattr(source, name) is not None and values.values.size == 0:
            cure = f"set {'data.attributes, or ' if name == 'attributes' else ''}model.light.creative.{name}=null"
            raise ConfigError(f"model.light.creative.{name} is set but no creative has any", cure)


def _bias(module: LogBias | None, batch: RankingBatch) -> Tensor:
    return torch.zeros_like(batch.ad_history) if module is None else module(batch.impressions)
