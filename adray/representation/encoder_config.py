"""The config of a run that trains an encoder contrastively."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from adray.config import Config, RunConfig
from adray.representation.contrastive.config import InfoNceConfig, PairsConfig
from adray.representation.encoders.dual_tower import DualTowerConfig
from adray.representation.encoders.mllm_config import MllmConfig
from adray.training import config as training
from adray.training.config import TrainingConfig

TrainableEncoder = DualTowerConfig | MllmConfig
"""Encoders that read pictures and copy, so that one can be trained to find the other."""


class EvaluationConfig(Config):
    """How the trained encoder is judged on the held-out SKUs."""

    recall_at: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1, 10], min_length=1)
    """Ranks at which recall is counted."""
    batch_rows: int = Field(default=64, ge=2)
    """Creatives encoded at a time; pictures are exchanged within a batch."""


class EncoderRunConfig(RunConfig):
    """A run that trains an encoder with InfoNCE, judges it by retrieval, and exports it."""

    FREE_ON_RESUME: ClassVar[frozenset[str] | None] = frozenset({"evaluation", *(f"training.{name}" for name in training.FREE_ON_RESUME)})

    kind: Literal["encoder"]
    encoder: TrainableEncoder = Field(discriminator="kind")
    """The encoder."""
    pairs: PairsConfig
    """The creatives, and which of their views belong together."""
    objective: InfoNceConfig = InfoNceConfig()
    """The loss."""
    training: TrainingConfig = TrainingConfig()
    """The trainer."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """The judge."""

    @model_validator(mode="after")
    def _fits_together(self) -> EncoderRunConfig:
        encoder = self.encoder
        if isinstance(encoder, DualTowerConfig):
            if encoder.modalities != "both":
                raise ValueError(f"encoder.modalities is {encoder.modalities!r}, but pictures are trained to find copy; set it to both")
            if encoder.projection is None and not encoder.train_towers:
                raise ValueError("nothing of the encoder is trained; set encoder.projection (e.g. 512) or encoder.train_towers")
            if "image_copy" in self.pairs.views and encoder.projection is None:
                raise ValueError("views hold image_copy, but without encoder.projection pictures and copy share no coordinates; set it")
        for world_size in self.training.world_sizes():
            micro, accumulation = self.training.micro_batch(world_size)
            if accumulation > 1:
                raise ValueError(
                    f"training.micro_batch_size {micro} splits the batch into {accumulation} that do not see each other's negatives; "
                    "leave it out and set objective.chunk_rows, which saves the same memory"
                )
        return self
