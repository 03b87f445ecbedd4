"""One forward and backward pass before step 1, so that a wrong shape or too little memory shows at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adray.errors import AdrayError, TrainingError
from adray.training.config import TrainingConfig
from adray.training.distributed import World, untouched_randomness
from adray.training.module import TrainModule
from adray.training.strategy import compute_context


def dry_run(module: TrainModule, batch: Any, config: TrainingConfig, world: World) -> None:
    """Pass one batch through; weights, buffers and random generators are afterwards as they were.

    Args:
        module: Not yet wrapped; moved to the device.
        batch: One micro-batch.
        config: Gives the precision.
        world: Gives device and rank.

    Raises:
        TrainingError: If the module fails, returns no usable loss, or runs out of memory.
    """
    module.to(world.device).train()
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    try:
        with untouched_randomness():
            with compute_context(config, world.device):
                outputs = module(batch if world.device.type == "cpu" else batch.to(world.device))
            loss = _checked_loss(outputs, world.rank)
            loss.backward()
    except AdrayError:
        raise
    except torch.cuda.OutOfMemoryError:
        size = len(batch)
        raise TrainingError(f"a micro-batch of {size} rows does not fit on {world.device}", "lower training.micro_batch_size") from None
    except Exception as error:
        raise TrainingError(
            f"the module fails on its first batch: {type(error).__name__}: {error}", "see error.log for the trace"
        ) from error
    finally:
        module.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])


def _checked_loss(outputs: Any, rank: int) -> Tensor:
    loss = outputs.get("loss") if isinstance(outputs, dict) else None
    if not isinstance(loss, Tensor) or loss.ndim != 0 or not loss.requires_grad:
        raise TrainingError("the module's forward must return a dict whose 'loss' is a scalar that depends on trainable weights")
    if not torch.isfinite(loss):
        raise TrainingError(
            f"the loss is {float(loss.detach())} on the very first batch, before any step, on rank {rank}",
            "look at that batch and the weights' start",
        )
    return loss
