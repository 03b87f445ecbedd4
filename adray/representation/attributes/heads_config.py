"""Config of the classifiers on vectors."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from adray.config import Config, PathStr, RunConfig
from adray.representation.attributes.values import AUDIENCE
from adray.training import config as training
from adray.training.config import TrainingConfig

HEADS = ("promotion", "style", *AUDIENCE)
"""What a head may tell."""

_TRAINING: dict[str, Any] = {"epochs": 20, "batch_size": 64, "lr": 0.01, "weight_decay": 0.001}
"""A few thousand vectors and small heads: set one of these fields and the others still hold."""


class HeadsDataConfig(Config):
    """Vectors and labels."""

    embeddings: PathStr
    """Table of the creatives' vectors, of one encoder."""
    labels: PathStr
    """Parquet by `creative_id` with a text column per head (null: not labelled), or an `attributes` table, whose values that are
    not unknown become labels."""
    least_confidence: float = Field(default=0.5, ge=0, le=1)
    """Values of an `attributes` table of less confidence are no labels."""
    held_out: float = Field(default=0.3, gt=0, lt=0.9)
    """Share of SKUs that is not trained on: half of it calibrates, half of it judges."""


class HeadsRunConfig(RunConfig):
    """Kind `attribute_heads`: train classifiers of attributes on creatives' vectors (`train`)."""

    FREE_ON_RESUME: ClassVar[frozenset[str] | None] = frozenset(
        {"target_precision", *(f"training.{name}" for name in training.FREE_ON_RESUME)}
    )

    kind: Literal["attribute_heads"]
    data: HeadsDataConfig
    """Vectors and labels."""
    heads: list[str] = Field(default_factory=lambda: list(HEADS), min_length=1)
    """What is told; a head needs labels of at least two values."""
    target_precision: float = Field(default=0.9, gt=0, lt=1)
    """A value is told only when it is at least so surely right; else it is unknown."""
    training: TrainingConfig = TrainingConfig(**_TRAINING)
    """The training."""

    @field_validator("training", mode="before")
    @classmethod
    def _over_own_defaults(cls, training: Any) -> Any:
        return {**_TRAINING, **training} if isinstance(training, dict) else training

    @field_validator("heads")
    @classmethod
    def _known(cls, heads: list[str]) -> list[str]:
        for name in heads:
            if name not in HEADS:
                raise ValueError(f"{name!r} is not one of {', '.join(HEADS)}")
        return heads
