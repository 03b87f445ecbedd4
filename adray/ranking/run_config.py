"""The config of a ranker's run."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from adray.config import Config, RunConfig
from adray.data import config as data
from adray.data.config import DataConfig
from adray.ranking.config import RankerModelConfig
from adray.training import config as training
from adray.training.config import TrainingConfig


class EvaluationConfig(Config):
    """How a ranker is judged."""

    batch_rows: int = Field(default=4096, ge=1)
    """Lists scored at once."""
    resamples: int = Field(default=500, ge=10)
    """Bootstrap draws behind each interval."""
    parity_rows: int = Field(default=2048, ge=1)
    """Lists on which the exported light half is compared with the joint graph."""


class RankerRunConfig(RunConfig):
    """A run that trains, evaluates and exports a ranker."""

    FREE_ON_RESUME: ClassVar[frozenset[str] | None] = frozenset(
        {"evaluation", *(f"data.{name}" for name in data.FREE_ON_RESUME), *(f"training.{name}" for name in training.FREE_ON_RESUME)}
    )

    kind: Literal["ranker"]
    data: DataConfig
    """The tables."""
    model: RankerModelConfig = RankerModelConfig()
    """The model and its objective."""
    training: TrainingConfig = TrainingConfig()
    """The trainer."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Held-out metrics."""
