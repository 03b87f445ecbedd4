"""The seam between the loop and whatever shards the model: DeepSpeed today, sharded embedding tables tomorrow.

The loop knows `Strategy` and `Engine` only, models know neither. A strategy that shards tables would wrap the same
module and offer the same five verbs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from adray.training.config import TrainingConfig
from adray.training.distributed import World
from adray.training.module import TrainModule

WriteState = Callable[[str, Any], None]
"""Takes a file name, unique over ranks, and a state (nested dicts and lists of tensors and plain values)."""


class Engine(Protocol):
    """A module made ready to train over all workers."""

    module: TrainModule

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """The module's outputs for one micro-batch."""

    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's gradients, averaged over the accumulation."""

    def step(self) -> None:
        """After every micro-batch; the weights change with the last one of an optimizer step."""

    def set_lr_factor(self, factor: float) -> None:
        """Scale every parameter group's learning rate from its peak."""

    def save(self, folder: Path, write: WriteState) -> None:
        """Hand this rank's state to `write`; all ranks call it together.

        Args:
            folder: The checkpoint's folder, which exists.
            write: Where each file goes.
        """

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; all ranks call it together."""

    def close(self) -> None:
        """Leave `module` as plain as it was before `prepare`; nothing may be called afterwards."""

    def whole_weights(self) -> dict[str, Tensor] | None:
        """The full float32 state dict on rank 0 (None elsewhere) when `module` does not hold it; all ranks call it together."""


class Strategy(Protocol):
    """How a module is spread over workers."""

    def describe(self, world_size: int) -> dict[str, Any]:
        """What is handed to the library underneath, for the run folder and the terminal."""

    def prepare(self, module: TrainModule, world: World, *, converted: bool) -> Engine:
        """Shard the module and build its optimizer.

        Args:
            module: Built on the CPU, the same weights on every rank.
            world: The processes.
            converted: Whether the state that will be loaded went through `convert`.
        """

    def must_convert(self, saved_world_size: int, world_size: int) -> bool:
        """Whether state saved by `saved_world_size` processes has to be converted for `world_size`."""

    def convert(self, saved: Path, converted: Path) -> None:
        """Rewrite saved state into a form that any number of processes can load."""


def compute_context(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 unless the run is in fp32.

    Also with bf16 weights: batches arrive in float32 and autocast casts them where a layer wants it.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision != "fp32")
