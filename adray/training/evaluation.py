"""Evaluation and export: on rank 0, in full precision, with the averaged weights when there are any."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adray.files import replacing_folder
from adray.training.distributed import untouched_randomness
from adray.training.ema import WeightAverage
from adray.training.module import TrainModule, TrainTask


def whole_module(task: TrainTask, module: TrainModule, weights: Mapping[str, Tensor] | None, device: torch.device) -> TrainModule:
    """The module with all its weights in float32.

    Args:
        task: Builds a fresh module when the trained one is sharded or in bf16.
        module: The trained module.
        weights: From `Engine.whole_weights`; None when `module` itself is whole.
        device: Where to evaluate.
    """
    if weights is None:
        return module
    with untouched_randomness():
        fresh = task.build_module()
    with torch.no_grad():
        for name, tensor in (*fresh.named_parameters(), *fresh.named_buffers()):
            tensor.copy_(weights[name])
    return fresh.to(device)


@torch.no_grad()
def evaluate(
    module: TrainModule, average: WeightAverage | None, task: TrainTask, device: torch.device
) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and pictures of a module on the held-out batches.

    Neither the weights nor the random generators are changed by it, so training goes on as if it had not happened.

    Returns:
        The module's metrics (empty without held-out data) and pictures.
    """
    batches = task.eval_batches()
    was_training = module.training
    module.eval()
    try:
        with untouched_randomness(), average.applied(module) if average else nullcontext():
            metrics = {} if batches is None else module.evaluate(b if device.type == "cpu" else b.to(device) for b in batches)
            return {name: float(value) for name, value in metrics.items()}, module.pictures()
    finally:
        module.train(was_training)


def export(module: TrainModule, average: WeightAverage | None, folder: Path) -> None:
    """Write the artifact(s); `folder` appears when they are complete."""
    module.eval().cpu()
    with average.applied(module) if average else nullcontext(), replacing_folder(folder) as partial:
        module.export(partial)
