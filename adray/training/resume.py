"""Where a run stands, and whether a checkpoint fits the run that wants to go on from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adray.errors import ConfigError, DataError
from adray.training.checkpoint import Checkpoint
from adray.training.config import TrainingConfig


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
        if found[name] != value:
            what = "the training data gives" if name == "steps_per_epoch" else "the config says"
            raise ConfigError(
                f"cannot resume from {saved.folder}: {what} {name}={value!r}, the checkpoint was made with {found[name]!r}",
                "set it back, or start a run of another name",
            )
