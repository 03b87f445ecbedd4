"""MoCo v3 as a module that the trainer can train."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.moco.batches import LabelledBatch, PictureBatch, ViewBatch
from adray.representation.moco.config import KnnConfig, MocoConfig
from adray.representation.moco.heads import predictor
from adray.representation.moco.judge import correct_rows
from adray.representation.moco.loss import chance_loss, contrast, floor_loss, gathered, world
from adray.representation.moco.momentum import MomentumCopy, momentum_at
from adray.representation.moco.network import QueryNetwork
from adray.representation.moco.sync_norm import synchronised
from adray.representation.views.config import AugmentationConfig
from adray.representation.views.pairs import PAIR_KINDS
from adray.representation.views.pictures import picture_views
from adray.training.module import TrainModule

Export = Callable[[Encoder, Path], None]
"""Writes the trained encoder's artifact into a folder."""


class MocoModule(TrainModule):
    """Two views of each creative, one network of queries, one of keys that follows it slowly (Chen, Xie and He 2021).

    A step computes queries of both views, moves the key network, computes keys of both views, and compares crosswise.

    Args:
        encoder: The encoder to be trained, with `requires_grad` set.
        config: Objective and heads.
        views: How views of a `PictureBatch` are made.
        seed: Seed of the views.
        export: Writes the encoder's artifact.
        knn: The judge.
        size: Side of the views in pixels; 0 when batches bring ready views.
        convolutional: Whether the heads have a ResNet's published shapes.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: MocoConfig,
        views: AugmentationConfig,
        *,
        seed: int,
        export: Export,
        knn: KnnConfig,
        size: int = 0,
        convolutional: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.views, self.knn = config, views, knn
        self._seed, self._size, self._export = seed, size, export
        layers = config.projector_layers or (2 if convolutional else 3)
        last_norm = config.predictor_norm if config.predictor_norm is not None else not convolutional
        self.query = synchronised(QueryNetwork(encoder, config, layers))
        self.predictor = synchronised(predictor(config.hidden, config.out, last_norm=last_norm, norm=config.norm))
        self.key = MomentumCopy(self.query)
        self._progress = 0.0
        self._key_is_due = False

    @property
    def encoder(self) -> Encoder:
        """The encoder under training."""
        encoder = self.query.encoder
        assert isinstance(encoder, Encoder)
        return encoder

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights of two and more dimensions; and all others, which are not decayed (nor scaled by LARS)."""
        trained = [p for module in (self.query, self.predictor) for p in module.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def before_step(self, progress: float) -> None:
        """The key network moves once per optimizer step, between its first queries and its first keys."""
        self._progress = progress
        self._key_is_due = True

    def forward(self, batch: PictureBatch | ViewBatch) -> dict[str, Tensor]:
        """The symmetric loss and what tells learning from collapse.

        Returns:
            `loss`; `loss_chance` and `loss_floor`, between which it moves; `positive_cosine`, `negative_cosine` and their
            gap; `feature_std`, of a query's unit vector over rows, times sqrt(out): near 1 when spread, 0 when collapsed;
            `momentum`; and `loss_<kind>` per kind of pair where there are several (NaN, so left out, for one not met).
        """
        first, second = self._inputs(batch)
        queries = [F.normalize(self.predictor(self.query(view)).float(), dim=1) for view in (first, second)]
        momentum = momentum_at(self._progress, self.config.momentum, self.config.momentum_schedule == "cosine")
        if self._key_is_due:
            self.key.update(self.query, momentum)
            self._key_is_due = False
        keys = [gathered(F.normalize(self.key.keys(self.query, view).float(), dim=1)) for view in (first, second)]
        blocked = self._blocked(batch)
        per_row = sum(contrast(queries[a], keys[1 - a], self.config.temperature, blocked) for a in (0, 1))
        assert isinstance(per_row, Tensor)
        outputs = {"loss": per_row.mean(), **_watched(queries[0].detach(), keys[1])}
        everyone, tau = len(keys[0]), self.config.temperature
        figures = {"loss_chance": chance_loss(tau, everyone), "loss_floor": floor_loss(tau, everyone), "momentum": momentum}
        outputs |= {name: torch.tensor(value) for name, value in figures.items()}
        if isinstance(batch, ViewBatch):
            outputs |= _by_kind(per_row.detach(), batch.kinds)
        return outputs

    def _inputs(self, batch: PictureBatch | ViewBatch) -> tuple[EncoderInputs, EncoderInputs]:
        if isinstance(batch, ViewBatch):
            return batch.first, batch.second
        pair = picture_views(batch.pictures, batch.sizes, batch.ids, seed=self._seed, epoch=batch.epoch, config=self.views, size=self._size)
        first, second = (EncoderInputs({"pixels": pixels}, len(batch)) for pixels in pair)
        return first, second

    def _blocked(self, batch: PictureBatch | ViewBatch) -> Tensor:
        """Negatives that are none: the same creative met twice, and creatives of the same SKU when the config says so."""
        own = batch.skus if self.config.mask_same_sku else batch.ids
        return own[:, None] == gathered(own)[None, :]

    def evaluate(self, batches: Iterable[LabelledBatch]) -> dict[str, float]:
        """kNN accuracy of the encoder's vectors: `representation/knn_accuracy`."""
        return {"representation/knn_accuracy": float(correct_rows(self.encoder, batches, self.knn).mean())}

    def export(self, folder: Path) -> None:
        """Write the encoder's artifact; projector, predictor and key network are left behind."""
        self._export(self.encoder, folder / "encoder")


@torch.no_grad()
def _watched(queries: Tensor, keys: Tensor) -> dict[str, Tensor]:
    rank, _ = world()
    n = len(queries)
    positive = (queries * keys[n * rank : n * (rank + 1)]).sum(dim=1).mean()
    # The mean over all pairs is the product of the means; the positives are taken out of it.
    every = queries.mean(dim=0) @ keys.mean(dim=0) * len(keys)
    negative = (every - positive) / max(1, len(keys) - 1)
    spread = queries.std(dim=0, correction=0).mean() * queries.shape[1] ** 0.5
    return {"positive_cosine": positive, "negative_cosine": negative, "cosine_gap": positive - negative, "feature_std": spread}


def _by_kind(per_row: Tensor, kinds: Tensor) -> dict[str, Tensor]:
    return {f"loss_{name}": per_row[kinds == i].mean() for i, name in enumerate(PAIR_KINDS)}
