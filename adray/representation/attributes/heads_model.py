"""Linear classifiers on creatives' vectors, calibrated, with a threshold below which a value is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from adray.artifact import Artifact, load_artifact, writing_artifact
from adray.representation.attributes.heads_data import LabelledVectors
from adray.training.module import TrainModule

KIND = "attribute_heads"
"""The artifact's kind."""
NEVER = 2.0
"""A threshold that no probability reaches: the head's precision is nowhere good enough."""


@dataclass(frozen=True)
class Calibration:
    """How far a head's probabilities are to be believed.

    Attributes:
        temperature: Logits are divided by it (Guo et al. 2017).
        threshold: Below this probability the value is unknown.
    """

    temperature: float = 1.0
    threshold: float = 0.0


class AttributeHeads(TrainModule):
    """One multinomial logistic regression per head.

    Args:
        classes: Head -> its values.
        dim: Width of the vectors.
        encoder: Content hash of the encoder whose vectors they are.
    """

    def __init__(self, classes: Mapping[str, tuple[str, ...]], dim: int, encoder: str) -> None:
        super().__init__()
        self.classes, self.dim, self.encoder = {head: tuple(values) for head, values in classes.items()}, dim, encoder
        self.heads = nn.ModuleDict({head: nn.Linear(dim, len(values)) for head, values in self.classes.items()})
        self.calibration = {head: Calibration() for head in self.classes}

    def logits(self, vectors: Tensor) -> dict[str, Tensor]:
        """Head -> float `[n, values]` of vectors `[n, dim]`."""
        # Unit vectors of d values have components of about d^-1/2: brought to unit size for the same step in every width.
        scaled = F.normalize(vectors, dim=1) * self.dim**0.5
        return {head: layer(scaled) for head, layer in self.heads.items()}

    def forward(self, batch: LabelledVectors) -> dict[str, Tensor]:
        """Sum of the heads' cross-entropies, each over its labelled rows."""
        losses = {}
        for number, (head, logits) in enumerate(self.logits(batch.vectors).items()):
            target = batch.labels[:, number]
            summed = F.cross_entropy(logits, target.clamp(min=0), reduction="none") * (target >= 0)
            losses[f"loss_{head}"] = summed.sum() / (target >= 0).sum().clamp(min=1)
        return {"loss": torch.stack(list(losses.values())).sum(), **{name: loss.detach() for name, loss in losses.items()}}

    def evaluate(self, batches: Iterable[LabelledVectors]) -> dict[str, float]:
        """Accuracy of each head on held-out rows."""
        found = {}
        for head, (logits, target) in collect(self, batches).items():
            if len(target):
                found[f"representation/heads/{head}/accuracy"] = float((logits.argmax(1) == target).mean())
        return found

    def export(self, folder: Path) -> None:
        """Write the artifact `heads`."""
        self.save(folder / "heads")

    def save(self, folder: Path, metrics: Mapping[str, float] | None = None, lineage: Mapping[str, Any] | None = None) -> None:
        """Write the artifact, calibration included."""
        config = {
            "classes": {head: list(values) for head, values in self.classes.items()},
            "dim": self.dim,
            "encoder": self.encoder,
            "calibration": {head: [c.temperature, c.threshold] for head, c in self.calibration.items()},
        }
        with writing_artifact(folder, KIND, config, metrics, lineage) as partial:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}, partial / "model.safetensors"
            )

    @classmethod
    def load(cls, source: Artifact | str | Path) -> AttributeHeads:
        """Rebuild the heads from their artifact.

        Raises:
            ArtifactError: If it is missing, damaged or of another kind.
        """
        artifact = source if isinstance(source, Artifact) else load_artifact(source, KIND)
        config = artifact.config
        heads = cls({head: tuple(values) for head, values in config["classes"].items()}, config["dim"], config["encoder"])
        heads.load_state_dict(artifact.tensors())
        heads.calibration = {head: Calibration(*values) for head, values in config["calibration"].items()}
        return heads.eval()

    @torch.no_grad()
    def predict(self, vectors: np.ndarray) -> dict[str, list[tuple[str | None, float]]]:
        """Head -> for each of n vectors its value and calibrated probability; None where that is below the threshold."""
        found = {}
        for head, logits in self.logits(torch.from_numpy(np.asarray(vectors, np.float32))).items():
            calibration = self.calibration[head]
            best, index = (logits / calibration.temperature).softmax(1).max(1)
            pairs = zip(best.tolist(), index.tolist(), strict=True)
            found[head] = [(self.classes[head][i] if p >= calibration.threshold else None, p) for p, i in pairs]
        return found


@torch.no_grad()
def collect(heads: AttributeHeads, batches: Iterable[LabelledVectors]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Head -> logits `[m, values]` and targets `[m]` of its labelled rows."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {head: [] for head in heads.classes}
    device = next(heads.parameters()).device
    for batch in batches:
        for number, (head, logits) in enumerate(heads.logits(batch.vectors.to(device)).items()):
            target = batch.labels[:, number].cpu().numpy()
            parts[head].append((logits.float().cpu().numpy()[target >= 0], target[target >= 0]))
    return {head: (np.concatenate([a for a, _ in own]), np.concatenate([b for _, b in own])) for head, own in parts.items() if own}


def calibrate(logits: np.ndarray, target: np.ndarray, precision: float) -> Calibration:
    """Fit temperature and threshold on rows that were not trained on.

    Args:
        logits: float `[m, values]`.
        target: int `[m]`.
        precision: Wanted share of right values among those told.

    Returns:
        The temperature of least negative log-likelihood, and the lowest threshold above which the wanted share is right.
    """
    if not len(target):
        return Calibration(1.0, NEVER)

    def nll(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        peak = scaled.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled - peak).sum(1)) + peak[:, 0] - scaled[np.arange(len(target)), target]))

    temperature = float(np.exp(minimize_scalar(nll, bounds=(-4.0, 4.0), method="bounded").x))
    probabilities = np.exp(logits / temperature - (logits / temperature).max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    order = np.argsort(-probabilities.max(1), kind="stable")
    right = (probabilities.argmax(1) == target)[order]
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    good = np.flatnonzero(share >= precision)
    return Calibration(temperature, float(probabilities.max(1)[order][good[-1]]) if good.size else NEVER)
