"""The light half: which creative of a SKU, for this user.

Its arithmetic is arranged for serving: a creative's vector needs no user and is cached, the user side is computed once per
request, the SKU side once per SKU, and the first layer of the MLP is the sum of what each side sends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.data.batch import Ragged
from adray.ranking.batch import CreativeFeatures
from adray.ranking.config import AdScoreConfig, CreativeConfig, FeatureConfig, IdSourceConfig, LightConfig
from adray.ranking.layers import relu_mlp
from adray.ranking.quantiser import AdScoreEmbedding
from adray.ranking.ragged import rows_of
from adray.ranking.simtier import ClickedCreatives, similarity_tiers
from adray.ranking.tables import FieldTables, HashedTable, Rows, column

# An element stands in many creatives, so its row is learned soon and may start large; taste times creative is a product,
# whose gradient vanishes while both factors are small.
_CONTENT_STD = 0.1


@dataclass(frozen=True)
class Side:
    """What the user or the SKU contributes.

    Attributes:
        hidden: `[rows, hidden[0]]`, added to the first layer of the MLP.
        taste: `[rows, creative dim]`, multiplied with the creative vector; None where the scorer wants none.
    """

    hidden: Tensor
    taste: Tensor | None

    def __add__(self, other: Side) -> Side:
        """Add two sides; one row broadcasts over many."""
        taste = None if self.taste is None or other.taste is None else self.taste + other.taste
        return Side(self.hidden + other.hidden, taste)


@dataclass(frozen=True)
class LightOutput:
    """What the light half says of m candidates.

    Attributes:
        exposure: float32 `[m]`, exposure logit: a propensity model of the logging policy, never a serving order.
        click: float32 `[m]`, click logit: the serving order.
        classes: float32 `[m, 2]`, logits of (no click, click); `click` is their difference.
    """

    exposure: Tensor
    click: Tensor
    classes: Tensor


class CreativeRanker(nn.Module):
    """Creative encoder, user and SKU sides, quantised ad score, MLP, and an exposure and a click head.

    Args:
        config: Fields and sizes.
        boundaries: Bucket boundaries of the number columns.
        content_dim: Width of the creatives' content vectors; 0 when there are none.
        delta: The click logit is the ad logit plus an increment.
        start_logit: Where click logits start, e.g. the logit of the global CTR.
    """

    def __init__(
        self, config: LightConfig, boundaries: Mapping[str, np.ndarray], content_dim: int, *, delta: bool = False, start_logit: float = 0.0
    ) -> None:
        super().__init__()
        self.config, self.delta = config, delta
        self.encoder = CreativeEncoder(config.creative, content_dim, exposure_bias=config.exposure_head == "own")
        self.scorer: TwoTowerScorer | MlpScorer = TwoTowerScorer(config) if config.two_tower else MlpScorer(config)
        with torch.no_grad():
            self.scorer.heads.bias[1] = start_logit
        liked = config.creative.elements.dim if config.liked is not None and config.creative.elements is not None else 0
        self.user = SideEncoder(config.user, config, boundaries, self.scorer.taste_width, extra=liked)
        self.sku = SideEncoder(config.sku, config, boundaries, self.scorer.taste_width)

    def user_side(self, rows: Rows) -> Side:
        """The user's side of n rows (one row when serving a request)."""
        liked = None
        if self.config.liked is not None and self.encoder.elements is not None:
            liked = self.encoder.elements.bag(column(rows.bags, self.config.liked, "bag", rows))
        return self.user(rows, liked)

    def sku_side(self, rows: Rows) -> Side:
        """The SKU's side of n rows."""
        return self.sku(rows)

    def tiers(self, content: Tensor, candidates: Ragged, clicked: ClickedCreatives | None) -> Tensor | None:
        """SimTier's histograms, log-scaled: `log(1 + count)`, float32 `[m, tiers]`; None for a model without.

        Args:
            content: `[U, content_dim]`, the creatives' content vectors.
            candidates: Each candidate's row in `content`; n lists with m items.
            clicked: What the users of these lists clicked.
        """
        if self.config.simtier is None or clicked is None:
            return None
        return similarity_tiers(content, candidates, clicked, self.config.simtier.tiers).log1p()

    def score(
        self,
        side: Side,
        probability: Tensor,
        creatives: Tensor,
        creative_index: Tensor,
        segments: Tensor,
        tiers: Tensor | None = None,
    ) -> LightOutput:
        """Score m candidates of n lists.

        Args:
            side: User plus SKU side of the n lists.
            probability: float32 `[n]`, the ad's click probability, live or historical.
            creatives: `[U, encoder.width]`, creative vectors.
            creative_index: int64 `[m]`, each candidate's row in `creatives`.
            segments: int64 `[m]`, each candidate's list.
            tiers: `[m, tiers]` from `tiers`.
        """
        probability = probability.float()
        vectors = self.encoder.content_part(creatives)
        exposure, classes = self.scorer(side, probability, vectors, creative_index, segments, tiers)
        if self.config.exposure_head == "own":
            exposure = exposure + creatives[:, -1][creative_index].float()
        if self.delta:
            source = probability.detach() if self.config.ad_score.mode == "stop" else probability
            shift = torch.logit(source, eps=1e-6)[segments]
            classes = torch.stack([classes[:, 0], classes[:, 1] + shift], dim=1)
        return LightOutput(exposure, classes[:, 1] - classes[:, 0], classes)

    def forward(
        self, rows: Rows, creatives: CreativeFeatures, candidates: Ragged, probability: Tensor, clicked: ClickedCreatives | None = None
    ) -> LightOutput:
        """Score all candidates of n training rows; arguments as in `tiers` and `score`, creatives not yet encoded."""
        side = self.user_side(rows) + self.sku_side(rows)
        tiers = self.tiers(creatives.content, candidates, clicked)
        return self.score(side, probability, self.encoder(creatives), candidates.values, candidates.segments(), tiers)


class SideEncoder(nn.Module):
    """What the user, or the SKU, sends to the first layer and to the user x creative product.

    Args:
        fields: The side's fields.
        config: The light half's sizes.
        boundaries: Bucket boundaries of the number columns.
        taste_width: Width of the creative vector; 0 when no product is formed.
        extra: Width of a further input beside the fields.
    """

    zeros: Tensor

    def __init__(
        self, fields: list[FeatureConfig], config: LightConfig, boundaries: Mapping[str, np.ndarray], taste_width: int, extra: int = 0
    ) -> None:
        super().__init__()
        self.tables = FieldTables(fields, config.dim, boundaries)
        self.hidden_size, self.wants_taste = config.hidden[0], taste_width > 0
        width = self.tables.width + extra
        # A side without fields has no layer (PyTorch warns of layers without weights); it sends zeros.
        self.hidden = nn.Linear(width, config.hidden[0], bias=False) if width else None
        self.taste = nn.Linear(width, taste_width) if width and taste_width else None
        self.register_buffer("zeros", torch.zeros(1, config.hidden[0] + taste_width), persistent=False)

    def forward(self, rows: Rows, extra: Tensor | None = None) -> Side:
        """Encode n rows; `extra` is `[n, extra]`."""
        parts = [self.tables(rows)] if self.tables.fields else []
        if extra is not None:
            parts.append(extra)
        if self.hidden is None:
            zeros = self.zeros.expand(len(rows), -1)
            return Side(zeros[:, : self.hidden_size], zeros[:, self.hidden_size :] if self.wants_taste else None)
        values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return Side(self.hidden(values), None if self.taste is None else self.taste(values))


class CreativeEncoder(nn.Module):
    """Turns a creative's sources into its vector. Knows no user, so the vector can be cached.

    Args:
        config: Sources and widths.
        content_dim: Width of the content vectors; 0 when there are none.
        exposure_bias: Append a column: how much the logging policy liked the creative. It rides along so that caching a
            creative means caching one vector.
    """

    def __init__(self, config: CreativeConfig, content_dim: int, *, exposure_bias: bool = False) -> None:
        super().__init__()
        self.config = config
        self.width = config.dim + int(exposure_bias)
        rows = config.id.rows if config.id else IdSourceConfig().rows
        self.exposure_bias = HashedTable(rows, 1) if exposure_bias else None
        self.elements = HashedTable(config.elements.rows, config.elements.dim, _CONTENT_STD) if config.elements else None
        self.ngrams = HashedTable(config.copy_ngrams.rows, config.copy_ngrams.dim) if config.copy_ngrams else None
        self.id = HashedTable(config.id.rows, config.id.dim) if config.id else None
        self.content = nn.Sequential(nn.LayerNorm(content_dim), nn.Linear(content_dim, config.content.dim)) if config.content else None
        self.attributes = HashedTable(config.attributes.rows, config.attributes.dim, _CONTENT_STD) if config.attributes else None
        sources = (config.elements, config.copy_ngrams, config.id, config.content, config.attributes)
        width = sum(source.dim for source in sources if source is not None)
        self.direct = nn.Linear(width, config.dim)
        self.deep = nn.Sequential(nn.Linear(width, 2 * config.dim), nn.ReLU(), nn.Linear(2 * config.dim, config.dim))

    def forward(self, creatives: CreativeFeatures) -> Tensor:
        """Encode U creatives into `[U, width]`."""
        parts = []
        if self.elements is not None:
            parts.append(self.elements.bag(creatives.elements))
        if self.ngrams is not None:
            parts.append(self.ngrams.bag(creatives.ngrams))
        if self.id is not None:
            parts.append(self.id(self._visible_ids(creatives)))
        if self.content is not None:
            parts.append(self.content(creatives.content))
        if self.attributes is not None:
            parts.append(self.attributes.bag(creatives.attributes))
        values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        vectors = self.direct(values) + self.deep(values)
        if self.exposure_bias is None:
            return vectors
        known = torch.where(creatives.impressions > 0, creatives.ids, 0)
        return torch.cat([vectors, self.exposure_bias(known).to(vectors.dtype)], dim=1)

    def content_part(self, vectors: Tensor) -> Tensor:
        """The columns of `[U, width]` that describe the creative itself, `[U, dim]`."""
        return vectors[:, : self.config.dim]

    def _visible_ids(self, creatives: CreativeFeatures) -> Tensor:
        config = self.config.id
        assert config is not None
        visible = creatives.impressions >= config.min_exposures
        if self.training and config.dropout:
            visible = visible & (torch.rand(len(creatives), device=visible.device) >= config.dropout)
        return torch.where(visible, creatives.ids, 0)


class MlpScorer(nn.Module):
    """Ad score embedding and MLP over (user, SKU, ad score, creative, user x creative); an exposure and a click head."""

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        score: AdScoreConfig = config.ad_score
        self.taste_width = config.creative.dim if config.interaction else 0
        self.ad_score = AdScoreEmbedding(score)
        # The user's and SKU's linear maps and these together are the first layer over all inputs side by side.
        self.score_in = nn.Linear(score.dim, config.hidden[0])
        self.creative_in = nn.Linear(config.creative.dim, config.hidden[0], bias=False)
        self.pair_in = nn.Linear(config.creative.dim, config.hidden[0], bias=False) if config.interaction else None
        self.tiers_in = nn.Linear(config.simtier.tiers, config.hidden[0], bias=False) if config.simtier else None
        self.mlp = relu_mlp(config.hidden[0], config.hidden[1:])
        # Columns: no click, click. The wide parts let main effects and tastes reach the heads unsquashed.
        self.heads = nn.Linear(config.hidden[-1], 2)
        self.creative_wide = nn.Linear(config.creative.dim, 2, bias=False)
        self.pair_wide = nn.Linear(config.creative.dim, 2, bias=False) if config.interaction else None
        self.tiers_wide = nn.Linear(config.simtier.tiers, 2, bias=False) if config.simtier else None
        self.exposure_shapes = config.exposure_head == "shared"
        self.exposure = nn.Linear(config.hidden[-1] + config.creative.dim, 1)

    def forward(
        self,
        side: Side,
        probability: Tensor,
        creatives: Tensor,
        creative_index: Tensor,
        segments: Tensor,
        tiers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Exposure logits float32 `[m]` and (no click, click) logits float32 `[m, 2]`; arguments as in `CreativeRanker.score`."""
        row = side.hidden + self.score_in(self.ad_score(probability))
        hidden = rows_of(row, segments) + rows_of(self.creative_in(creatives), creative_index)
        wide = rows_of(self.creative_wide(creatives), creative_index)
        if self.pair_in is not None and self.pair_wide is not None and side.taste is not None:
            pair = rows_of(side.taste, segments) * rows_of(creatives, creative_index)
            hidden = hidden + self.pair_in(pair)
            wide = wide + self.pair_wide(pair)
        if self.tiers_in is not None and self.tiers_wide is not None:
            assert tiers is not None, "a model with SimTier needs the histograms"
            hidden, wide = hidden + self.tiers_in(tiers), wide + self.tiers_wide(tiers)
        hidden = self.mlp(F.relu(hidden))
        seen = torch.cat([hidden, rows_of(creatives, creative_index)], dim=1)
        exposure = self.exposure(seen if self.exposure_shapes else seen.detach())
        return exposure.squeeze(1).float(), (self.heads(hidden) + wide).float()


class TwoTowerScorer(nn.Module):
    """Inner products of a user/SKU vector with the creative vector, one per head; blind to the ad score (DSSM-like)."""

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        self.taste_width = 0
        width = config.creative.dim
        self.bias = nn.Parameter(torch.zeros(config.hidden[0]))
        self.trunk = nn.Sequential(nn.ReLU(), relu_mlp(config.hidden[0], config.hidden[1:]))
        self.query = nn.Linear(config.hidden[-1], 2 * width)
        self.heads = nn.Linear(width, 2)
        self.exposure_shapes = config.exposure_head == "shared"
        self.exposure_query = nn.Linear(config.hidden[-1], width)

    def forward(
        self,
        side: Side,
        probability: Tensor,
        creatives: Tensor,
        creative_index: Tensor,
        segments: Tensor,
        tiers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Exposure logits float32 `[m]` and (no click, click) logits float32 `[m, 2]`; arguments as in `CreativeRanker.score`."""
        hidden, vectors = self.trunk(side.hidden + self.bias), rows_of(creatives, creative_index)
        products = (rows_of(self.query(hidden), segments).unflatten(1, (2, -1)) * vectors.unsqueeze(1)).sum(dim=2)
        classes = products + rows_of(self.heads(creatives), creative_index)
        if not self.exposure_shapes:
            hidden, vectors = hidden.detach(), vectors.detach()
        exposure = (rows_of(self.exposure_query(hidden), segments) * vectors).sum(dim=1)
        return exposure.float(), classes.float()
