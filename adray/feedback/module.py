"""An inspector as the one trainer trains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.feedback.artifact import export_inspector
from adray.feedback.config import MapsConfig, ModelConfig
from adray.feedback.inputs import PROMPT_WORDS, Inputs
from adray.feedback.metrics import inspection_metrics
from adray.feedback.rfnet import build
from adray.training.module import TrainModule


class InspectorModule(TrainModule):
    """Cross-entropy over the five labels (section 3.2 of the paper: fine-grained labels beat binary ones).

    Args:
        model: The network.
        maps: What computed depth and saliency, kept in the artifact.
        weights: float `[5]`, weight of each label in the loss; None weighs them alike.
        lineage: Where the data came from, kept in the artifact.
        warm_up: Share of the run in which the encoders learn alone, to tell the prompt's words from the generated picture and from
            the title. The paper starts from a ResNet trained on ImageNet and a RoBERTa fine-tuned on product descriptions; this
            stands in for both. The loss is the softmax cross-entropy over words of Mahajan et al. (2018).
        prompt_loss: Weight of the same loss beside that of the labels, after the warm-up.
    """

    def __init__(
        self,
        model: ModelConfig,
        maps: MapsConfig,
        weights: Tensor | None = None,
        lineage: Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        prompt_loss: float = 0.0,
    ) -> None:
        super().__init__()
        self._model, self._maps, self._lineage = model, maps, dict(lineage or {})
        self.net = build(model)
        self.register_buffer("weights", weights, persistent=False)
        self.metrics: dict[str, float] = {}
        self._warm_up, self._warming, self._prompt_loss = warm_up, warm_up > 0, prompt_loss
        if warm_up or prompt_loss:
            self.words = nn.ModuleDict({name: nn.Linear(width, PROMPT_WORDS) for name, width in self.net.part_widths().items()})

    def before_step(self, progress: float) -> None:
        """End the warm-up when its share of the run is over."""
        self._warming = progress < self._warm_up

    def forward(self, batch: Inputs) -> dict[str, Tensor]:
        """Loss and accuracy of one micro-batch; while warming up, the loss of each encoder."""
        if self._warming and self.training and len(self.words):
            return _with_total({}, self._words_losses(batch, self.net.part_features(batch)), 1.0)
        assert batch.labels is not None
        logits, parts = self.net.judged(batch)
        weights = self.weights if isinstance(self.weights, Tensor) else None
        accuracy = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        found = {"loss": F.cross_entropy(logits.float(), batch.labels, weights), "accuracy": accuracy}
        if not (self._prompt_loss and self.training and len(self.words)):
            return found
        return _with_total(found, self._words_losses(batch, parts), self._prompt_loss)

    def _words_losses(self, batch: Inputs, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of each encoder: cross-entropy of the prompt's words, which share the probability; rows without a prompt do not count."""
        assert batch.words is not None
        count = batch.words.sum(dim=1)
        target = batch.words / count.clamp(min=1.0)[:, None]
        losses = {}
        for name, features in parts.items():
            each = -(target * F.log_softmax(self.words[name](features).float(), dim=1)).sum(dim=1)
            losses[name] = each.sum() / (count > 0).sum().clamp(min=1)
        return losses

    def evaluate(self, batches: Iterable[Inputs]) -> dict[str, float]:
        """Precision, recall, F1 and AP of `available`, and the figures of all labels."""
        labels, probabilities = predict(self.net, batches)
        self.metrics = inspection_metrics(labels, probabilities)
        return self.metrics

    def export(self, folder: Path) -> None:
        """Write the artifact into `folder/rfnet`."""
        export_inspector(folder / "rfnet", self.net, self._model, self._maps, self.metrics, self._lineage)


def _with_total(found: dict[str, Tensor], words: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """What a step reports, with the losses of the words in its loss."""
    added = weight * torch.stack(list(words.values())).sum()
    total = found["loss"] + added if found else added
    return {**found, "loss": total, **{f"words/{name}": loss.detach() for name, loss in words.items()}}


@torch.no_grad()
def predict(net: torch.nn.Module, batches: Iterable[Inputs]) -> tuple[np.ndarray, np.ndarray]:
    """Labels int64 `[n]` and probabilities float32 `[n, 5]` of all batches."""
    labels, probabilities = [], []
    for batch in batches:
        assert batch.labels is not None
        labels.append(batch.labels.cpu().numpy())
        probabilities.append(net(batch).float().softmax(dim=1).cpu().numpy())
    return np.concatenate(labels), np.concatenate(probabilities)
