"""Where a run stands, whether a checkpoint fits the run that wants to go on from it, and what it holds besides shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adray.errors import ConfigError, DataError, TrainingError
from adray.training.checkpoint import Checkpoint
from adray.training.config import TrainingConfig
from adray.training.distributed import World, random_state, seed_everything, set_random_state
from adray.training.ema import WeightAverage
from adray.training.module import TrainModule


@dataclass
class Position:
    """How far a run is. Data position is (epoch, step within it), which names the same rows at any world size.

    Attributes:
        step: Optimizer steps done.
        steps_per_epoch: Optimizer steps in one pass over the data.
        config: Says where the run ends.

    Raises:
        DataError: If there is not one whole batch.
    """

    step: int
    steps_per_epoch: int
    config: TrainingConfig

    def __post_init__(self) -> None:
        if self.steps_per_epoch < 1:
            raise DataError(f"the training data has fewer than training.batch_size={self.config.batch_size} rows", "lower batch_size")

    @property
    def total(self) -> int:
        """Optimizer steps of the whole run."""
        config = self.config
        epochs = config.epochs if config.epochs is not None or config.max_steps is not None else 1
        by_epochs = epochs * self.steps_per_epoch if epochs is not None else None
        return min(n for n in (by_epochs, config.max_steps) if n is not None)

    @property
    def progress(self) -> float:
        """Share of the run done, 0 to 1."""
        return self.step / self.total

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.step >= self.total

    @property
    def epoch(self) -> int:
        """0-based epoch of the next step."""
        return self.step // self.steps_per_epoch

    @property
    def within_epoch(self) -> int:
        """Steps done in this epoch."""
        return self.step % self.steps_per_epoch

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step done was an epoch's last."""
        return self.step > 0 and self.within_epoch == 0

    def metadata(self, seed: int) -> dict[str, Any]:
        """What a checkpoint says about the run."""
        config = self.config
        return {
            "epoch": self.epoch,
            "epoch_step": self.within_epoch,
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total,
            "seed": seed,
            "zero_stage": config.zero_stage,
            "config": config.binding_fields(),
            "config_hash": config.fingerprint(),
        }


def check_fits(saved: Checkpoint, config: TrainingConfig, position: Position, seed: int) -> None:
    """Refuse to go on from a checkpoint of another run.

    Raises:
        ConfigError: Naming the field that differs, its two values and the cure.
    """
    wanted = {"seed": seed, "steps_per_epoch": position.steps_per_epoch, **config.binding_fields()}
    found = {**saved.metadata, **saved.metadata["config"]}
    for name, value in wanted.items():
        # A field that the checkpoint does not know is newer than it.
        if found.get(name, value) != value:
            what = "the training data gives" if name == "steps_per_epoch" else "the config says"
            raise ConfigError(
                f"cannot resume from {saved.folder}: {what} {name}={value!r}, the checkpoint was made with {found[name]!r}",
                "set it back, or start a run of another name",
            )


def check_convertible(module: TrainModule, config: TrainingConfig) -> None:
    """Refuse to take a run to another world size when part of its weights would silently stay behind.

    DeepSpeed's conversion carries what the optimizer owns. Frozen weights come from `build_module` again, which is
    right unless the module changes them itself; below ZeRO-3 they are saved apart.

    Raises:
        TrainingError: If ZeRO-3 shards frozen weights of a module that has step hooks.
    """
    hooks = any(getattr(type(module), name) is not getattr(TrainModule, name) for name in ("before_step", "after_step"))
    if config.zero_stage == 3 and hooks and not all(p.requires_grad for p in module.parameters()):
        raise TrainingError(
            "a ZeRO-3 run whose module changes frozen weights in its step hooks cannot go on with another number of workers",
            "resume with as many workers as before, or train with training.zero_stage=2",
        )


def rank_state(module: TrainModule, average: WeightAverage | None, config: TrainingConfig, rank: int) -> dict[str, dict[str, Tensor]]:
    """What this rank saves besides the engine's shards.

    Random generators; buffers, which universal checkpoints leave out (and which may differ between ranks); on rank 0 the
    weight average and, below ZeRO-3, the parameters that no optimizer owns, such as a momentum encoder's.
    """
    state = {"random": random_state(), "buffers": dict(module.named_buffers())}
    if rank == 0:
        state["frozen"] = dict(_frozen(module, config))
        if average is not None:
            state["ema"] = average.state()
    return state


def restore_rank_state(
    saved: Checkpoint, module: TrainModule, average: WeightAverage | None, config: TrainingConfig, world: World, seed: int
) -> None:
    """Restore what `rank_state` saved.

    At another world size every rank takes rank 0's buffers, and no rank's random state can go on: a new one is drawn from
    the run's seed and the step.
    """
    same = int(saved.metadata["world_size"]) == world.size
    _copy(saved.rank_tensors(world.rank if same else 0, "buffers"), module.named_buffers())
    _copy(saved.rank_tensors(0, "frozen"), _frozen(module, config))
    if average is not None:
        kept = saved.rank_tensors(0, "ema")
        if kept is not None:
            average.load(kept)
    generators = saved.rank_tensors(world.rank, "random") if same else None
    if generators is not None:
        set_random_state(generators)
    else:
        seed_everything(hash((seed, saved.step, world.size, world.rank)) % 2**63)


def _frozen(module: TrainModule, config: TrainingConfig) -> Iterator[tuple[str, Tensor]]:
    if config.zero_stage < 3:
        yield from ((name, p) for name, p in module.named_parameters() if not p.requires_grad)


@torch.no_grad()
def _copy(values: dict[str, Tensor] | None, targets: Iterator[tuple[str, Tensor]]) -> None:
    for name, target in targets:
        if values is not None and name in values:
            target.copy_(values[name])
