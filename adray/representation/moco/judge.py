"""The judge: a kNN classifier on an encoder's frozen vectors, and whether one encoder beats another on the same pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adray.bootstrap import difference_interval, ratio_interval
from adray.representation.encoders.base import Encoder
from adray.representation.moco.batches import LabelledBatch
from adray.representation.moco.config import KnnConfig
from adray.representation.quality.knn import weighted_knn


@torch.no_grad()
def correct_rows(encoder: Encoder, batches: Iterable[LabelledBatch], knn: KnnConfig) -> np.ndarray:
    """Which test rows the kNN classifier gets right.

    Args:
        encoder: In evaluation mode.
        batches: The labelled bank and test.
        knn: Neighbours and temperature.

    Returns:
        bool `[m]`, one per test row, in order.
    """
    vectors: dict[str, list[Tensor]] = {"bank": [], "test": []}
    labels: dict[str, list[Tensor]] = {"bank": [], "test": []}
    device = next(encoder.parameters()).device
    for batch in batches:
        vectors[batch.part].append(encoder(batch.inputs.to(device)).cpu())
        labels[batch.part].append(batch.labels.cpu())
    bank, test = (torch.cat(vectors[part]).numpy() for part in ("bank", "test"))
    bank_labels, truth = (torch.cat(labels[part]).numpy() for part in ("bank", "test"))
    return weighted_knn(bank, bank_labels, test, k=knn.k, temperature=knn.temperature) == truth


def gain_metrics(after: np.ndarray, before: np.ndarray, baseline: str, knn: KnnConfig, seed: int) -> dict[str, float]:
    """Accuracies as fractions and the gain with its paired 95 % bootstrap interval: both judge the same rows.

    Args:
        after: bool `[m]`, right after training.
        before: bool `[m]`, right before it.
        baseline: Name of the metric of `before`, e.g. `knn_random_init`.
        knn: Number of draws.
        seed: Seed of the draws.
    """
    ones = np.ones(len(after))
    draws: Any = {"resamples": knn.resamples, "seed": seed}
    gain = difference_interval((after, ones), (before, ones), **draws)
    accuracy = ratio_interval(after, ones, **draws)
    metrics: Mapping[str, float] = {
        **accuracy.metrics("representation/knn_accuracy"),
        f"representation/{baseline}": float(before.mean()),
        **gain.metrics("representation/knn_gain"),
    }
    return dict(metrics)
