"""How a run is trained: one small typed section from which everything else (DeepSpeed JSON, Ray scaling) is derived."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config

FREE_ON_RESUME = frozenset(
    {
        "epochs",
        "max_steps",
        "micro_batch_size",
        "workers",
        "gpus",
        "cpus_per_worker",
        "threads",
        "max_failures",
        "resize_check_s",
        "gradient_checkpointing",
        "checkpoint_every",
        "checkpoint_async",
        "num_to_keep",
        "log_every",
        "evaluate_every",
        "collective_timeout_s",
        "tracking",
    }
)
"""Fields that a resumed run may change: how far and where it runs, what it saves and says, not what it learns."""


class TrackingConfig(Config):
    """Where metrics go besides `metrics.jsonl`, which is always written."""

    wandb: Literal["off", "offline", "online"] = "off"
    """`offline` writes a run folder that `wandb sync` uploads later; `online` needs WANDB_API_KEY in the environment."""
    project: str = "adray"
    """W&B project."""
    pictures: bool = True
    """Log the pictures that a module offers after each evaluation."""
    max_pictures: int = Field(default=16, ge=1)
    """Most pictures logged per evaluation."""


class TrainingConfig(Config):
    """Steps, batch, workers, optimizer, precision, memory saving, checkpoints and tracking of one run."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the data; 1 when neither this nor `max_steps` is given. With both, whichever ends first."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=1024, ge=1)
    """Rows per optimizer step over all workers. It does not depend on how many workers there are."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows per forward pass on one worker; the rest is gradient accumulation. Default: `batch_size / workers`."""
    workers: int | tuple[int, int] = 0
    """Ray workers; `[min, max]` is elastic; 0 trains in this process, without Ray."""
    gpus: bool = False
    """One GPU per worker."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves per worker."""
    threads: int = Field(default=0, ge=0)
    """Torch threads per worker; 0: as many as `cpus_per_worker` under Ray, torch's own choice in this process."""
    max_failures: int = Field(default=3, ge=0)
    """How often lost workers are replaced before the run gives up."""
    resize_check_s: float = Field(default=60.0, gt=0)
    """Elastic workers: seconds between looks for nodes that have come. A group that grows goes on from its last checkpoint."""
    optimizer: Literal["adamw", "adagrad", "sgd", "lars"] = "adamw"
    """`adamw` and `sgd` work at every ZeRO stage, `adagrad` and `lars` at stage 0."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate; a module's parameter groups may set their own."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled for adamw, L2 for the others."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates; the first is the momentum of `sgd` and `lars`."""
    warmup: float = Field(default=0.0, ge=0)
    """Below 1 a share of all steps, else a number of steps: the learning rate rises linearly."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the learning rate does after the warm-up."""
    final_lr_share: float = Field(default=0.0, ge=0, le=1)
    """Where `cosine` and `linear` end, as a share of the peak."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest global gradient norm; 0 does not clip."""
    precision: Literal["fp32", "bf16", "bf16_mixed"] = "fp32"
    """`bf16_mixed`: autocast over fp32 weights. `bf16`: bf16 weights with DeepSpeed's fp32 master copy (needs ZeRO >= 1)."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed shards over workers: 1 optimizer state, 2 also gradients, 3 also weights."""
    gradient_checkpointing: bool = False
    """Recompute activations of a module's blocks in the backward pass instead of keeping them."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Keep an exponential moving average of the weights, which is then evaluated and exported (ZeRO <= 2)."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Optimizer steps between checkpoints; 0: at the end of every epoch. The last step always has one."""
    checkpoint_async: bool = False
    """Copy the state to memory, then write it in the background while training goes on."""
    num_to_keep: int = Field(default=2, ge=1)
    """Complete checkpoints kept; older ones are deleted."""
    log_every: int = Field(default=50, ge=1)
    """Optimizer steps between metric rows."""
    evaluate_every: int = Field(default=0, ge=0)
    """Epochs between evaluations; 0: only at the end."""
    collective_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds after which a collective that not every worker has joined fails instead of hanging."""
    tracking: TrackingConfig = TrackingConfig()
    """Where metrics go."""

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingConfig:
        if isinstance(self.workers, tuple) and not 1 <= self.workers[0] <= self.workers[1]:
            raise ValueError(f"workers is {list(self.workers)}, but elastic workers are [min, max] with 1 <= min <= max")
        if isinstance(self.workers, int) and self.workers < 0:
            raise ValueError(f"workers is {self.workers}; set 0 for this process, or 1 and more for Ray")
        if self.precision == "bf16" and self.zero_stage == 0:
            raise ValueError("precision bf16 needs zero_stage 1, 2 or 3, which keep the fp32 master weights; or use bf16_mixed")
        if self.optimizer in ("adagrad", "lars") and self.zero_stage > 0:
            raise ValueError(f"optimizer {self.optimizer} works with zero_stage 0 only; use adamw or sgd")
        if self.ema_decay is not None and self.zero_stage == 3:
            raise ValueError("ema_decay needs whole weights on one worker; use zero_stage 0, 1 or 2")
        for world_size in self.world_sizes():
            self.micro_batch(world_size)
        return self

    def world_sizes(self) -> range:
        """Every number of training processes that this config allows."""
        low, high = self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)
        return range(max(low, 1), max(high, 1) + 1)

    def micro_batch(self, world_size: int) -> tuple[int, int]:
        """Split the global batch: `batch_size = micro x accumulation x world_size`.

        Returns:
            Rows per forward pass on one worker, and forward passes per optimizer step.

        Raises:
            ValueError: If the batch cannot be split evenly.
        """
        per_worker, left = divmod(self.batch_size, world_size)
        if left:
            raise ValueError(f"batch_size {self.batch_size} cannot be split over {world_size} workers; use a multiple of {world_size}")
        micro = self.micro_batch_size or per_worker
        accumulation, left = divmod(per_worker, micro)
        if left:
            raise ValueError(
                f"batch_size {self.batch_size} = {per_worker} rows on each of {world_size} workers, "
                f"not a multiple of micro_batch_size {micro}; change one of them"
            )
        return micro, accumulation

    def fingerprint(self) -> str:
        """Hash of the fields that a checkpoint depends on: a run can only be resumed with the same ones."""
        return hashlib.sha256(json.dumps(self.binding_fields(), sort_keys=True).encode()).hexdigest()[:16]

    def binding_fields(self) -> dict[str, object]:
        """The fields behind `fingerprint`: all that `FREE_ON_RESUME` does not name."""
        return self.model_dump(mode="json", exclude=set(FREE_ON_RESUME))
