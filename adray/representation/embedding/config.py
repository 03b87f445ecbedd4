"""Config of an embedding run: which creatives, which encoder, how many workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.data.piecework.config import ModelWorkConfig
from adray.representation.encoders.dual_tower import DualTowerConfig
from adray.representation.encoders.factory import EncoderConfig
from adray.representation.quality.config import QualityConfig
from adray.training.config import TrackingConfig


class CreativesConfig(Config):
    """Where the creatives are."""

    creatives: PathStr
    """Table `creatives`: Parquet, a folder of pictures, or WebDataset tars; local or a URI. Simulated worlds have one."""
    adapter: Literal["standard", "upworthy"] = "standard"
    """What turns `creatives` into that table, as in a ranker's `data`; `upworthy` reads the archive's arms."""
    products: PathStr | None = None
    """Table `products`, whose `category` is a label to judge by."""
    attributes: PathStr | None = None
    """A table of labels by `creative_id`: its text columns are probed."""
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    """Greatest share of creatives that may be unusable."""


class JobConfig(ModelWorkConfig):
    """How the work is done; nothing here changes a vector but by float rounding."""

    at_least: int | None = Field(default=256, ge=16)
    """Pictures are read at reduced scale as long as their shorter side stays this large; null reads them whole."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the encoder computes in; vectors are kept as float16."""


class EmbeddingRunConfig(RunConfig):
    """Kind `embedding`: turn creatives into vectors (`embed`) and judge them (`evaluate`)."""

    kind: Literal["embedding"]
    data: CreativesConfig
    """The creatives."""
    encoder: EncoderConfig = DualTowerConfig()
    """The encoder, built from its config; see `artifact`."""
    artifact: PathStr | None = None
    """Folder of a trained encoder's artifact, which then takes the place of `encoder`."""
    dim: int | None = Field(default=None, ge=1)
    """Keep this many leading values of each vector (Matryoshka), brought back to length 1; null keeps all."""
    job: JobConfig = JobConfig()
    """How the work is done."""
    evaluation: QualityConfig = QualityConfig()
    """The quality gate."""
    tracking: TrackingConfig = TrackingConfig()
    """Where progress and the gate's figures go besides the report."""

    @model_validator(mode="after")
    def _one_encoder(self) -> EmbeddingRunConfig:
        if self.artifact is not None and "encoder" in self.model_fields_set and self.encoder != DualTowerConfig():
            raise ValueError("'encoder' and 'artifact' are both given; keep one")
        return self
