"""What `training/` knows of a model, and what a model may expect of `training/`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Batch(Protocol):
    """Anything the trainer feeds to a module: it has a row count and can change device."""

    def __len__(self) -> int: ...

    def to(self, device: Any) -> Any:
        """Copy to a device."""


class TrainModule(nn.Module):
    """A model that the one trainer can train. Plain single-device PyTorch: no Ray, no DeepSpeed, no I/O but `export`."""

    @abstractmethod
    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Compute the training outputs of one micro-batch.

        Returns:
            A dict that holds the scalar `loss`; every other scalar is averaged and logged.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups (`params`, and optionally `lr`, `weight_decay`); frozen parts are absent."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def before_step(self, progress: float) -> None:
        """Hook before each optimizer step; `progress` in [0, 1] is the share of the run done."""

    def after_step(self, progress: float) -> None:
        """Hook after each optimizer step, e.g. for an EMA of the weights."""

    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Metrics on held-out batches; called in eval mode without gradients, on rank 0 with all batches."""
        return {}

    def pictures(self) -> dict[str, Any]:
        """Pictures to log after an evaluation: name -> NumPy uint8 `[height, width, 3]`, RGB."""
        return {}

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the artifact(s) into `folder`."""


class BatchSource(Protocol):
    """Where training batches come from.

    What the global step (epoch, step) holds is a pure function of the source's config and does not depend on the number
    of workers; so a position is two integers, and a run resumed at any world size sees exactly the rows that an
    uninterrupted one would.
    """

    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[Batch]:
        """This rank's micro-batches from `first_step` to the end of the epoch.

        Each optimizer step is `batch_size / (micro_batch_size * world_size)` consecutive items.
        """


class TrainTask(Protocol):
    """A training job's picklable recipe: each worker calls it to build its own module and source."""

    def build_module(self) -> TrainModule:
        """Build the module on the CPU; weights are drawn from the global torch seed."""

    def train_source(self, batch_size: int, micro_batch_size: int) -> BatchSource:
        """The training batches; one optimizer step has `batch_size` rows over all workers."""

    def eval_batches(self) -> Iterable[Batch] | None:
        """All held-out batches, or None when there is no held-out data."""
