"""The encoder as the trainer sees it: contrastive loss forward, retrieval in evaluation, the artifact at the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adray.representation.contrastive.batch import VIEWS, HeldOutBatch, PairBatch
from adray.representation.contrastive.config import InfoNceConfig
from adray.representation.contrastive.grad_cache import encode_chunks
from adray.representation.contrastive.info_nce import Outcome, Pairs, Settings, info_nce
from adray.representation.contrastive.judge import judge
from adray.representation.encoders.base import Encoder
from adray.representation.encoders.factory import EncoderConfig, save_encoder
from adray.training.module import TrainModule

_log = logging.getLogger(__name__)
_LEAST_TEMPERATURE = 0.01


class ContrastiveModule(TrainModule):
    """Trains an encoder with InfoNCE.

    Args:
        encoder: The encoder; what of it requires gradients is trained.
        encoder_config: What it was built from.
        objective: The loss.
        recall_at: Ranks that evaluation counts at.
        lineage: Of the artifact.
    """

    def __init__(
        self,
        encoder: Encoder,
        encoder_config: EncoderConfig,
        objective: InfoNceConfig,
        recall_at: Sequence[int] = (1, 10),
        lineage: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self._encoder_config, self._objective = encoder_config, objective
        self._recall_at, self._lineage = tuple(recall_at), dict(lineage or {})
        self._metrics: dict[str, float] = {}
        self._told = False
        start = torch.tensor([math.log(1 / objective.temperature)])
        self.log_scale = nn.Parameter(start, requires_grad=objective.learn_temperature)

    def temperature(self) -> Tensor:
        """The temperature `[1]`, at least 0.01."""
        return (-self.log_scale.float()).exp().clamp(min=_LEAST_TEMPERATURE)

    def forward(self, batch: PairBatch) -> dict[str, Tensor]:
        """The loss over all ranks' pairs.

        Returns:
            `loss`; `negatives` (columns a row is really compared with), `accuracy`, `chance_loss`, `floor_loss`,
            `temperature`, and `loss_<view>` for each view in the batch, not corrected for its rows.
        """
        objective = self._objective
        cached = objective.chunk_rows > 0

        def encode(chunks: Sequence[Any]) -> Tensor:
            return encode_chunks(self.encoder, chunks, cached=cached)

        pairs = Pairs(
            encode(batch.queries),
            encode(batch.documents),
            batch.keys if objective.mask_same else None,
            encode(batch.hard) if batch.hard else None,
            batch.hard_keys if objective.mask_same else None,
            batch.log_frequency if objective.log_q else None,
        )
        settings = Settings(objective.mask_margin, objective.both_directions, objective.matryoshka)
        temperature = self.temperature()
        outcome = info_nce(pairs, temperature, settings)
        self._tell(outcome)
        return {
            "loss": outcome.loss,
            "negatives": outcome.negatives,
            "accuracy": outcome.correct,
            "chance_loss": outcome.chance,
            "floor_loss": outcome.floor,
            "temperature": temperature.detach().squeeze(),
            **{f"loss_{view}": outcome.rows[batch.view == i].mean() for i, view in enumerate(VIEWS) if (batch.view == i).any()},
        }

    def _tell(self, outcome: Outcome) -> None:
        """Before the first step: what the loss can be. A loss that stays at chance means that nothing is learned."""
        if self._told:
            return
        self._told = True
        values = [float(value) for value in (outcome.negatives, outcome.chance, outcome.floor, outcome.loss.detach())]
        _log.info("InfoNCE at step 0: %.1f negatives a row, loss at chance %.4f, floor %.4f, now %.4f", *values)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices with weight decay; biases, norms and the temperature without."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def evaluate(self, batches: Iterable[HeldOutBatch]) -> dict[str, float]:
        """Retrieval on the held-out creatives; see `judge`."""
        self._metrics = judge(self.encoder, batches, self._recall_at, self._objective.matryoshka)
        return self._metrics

    def export(self, folder: Path) -> None:
        """Write the artifact `encoder`."""
        save_encoder(self.encoder, self._encoder_config, folder / "encoder", metrics=self._metrics, lineage=self._lineage)
