"""Configs of training a generator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.generation.architectures import Architecture
from adray.generation.diffusion.captions import CaptionConfig
from adray.generation.diffusion.losses import ObjectiveConfig
from adray.generation.diffusion.sizes import SizesConfig
from adray.generation.prompts import PromptConfig
from adray.generation.sampler import SamplingConfig
from adray.training.config import TrainingConfig

TrainedPart = Literal["unet", "controlnet", "text_encoder"]


class PicturesDataConfig(Config):
    """The pictures that a generator learns from."""

    train: PathStr
    """A table with sku_id, image and cutout (RGBA, on a canvas of the picture's size and at its place), and the caption's columns;
    tables of kind `annotations` have this form."""
    holdout: PathStr
    """Likewise: pictures of other products, for the held-out loss and the sheet of samples."""
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    """The run fails when a greater share of either table cannot be used."""
    size: int = Field(default=40, ge=8)
    """Side in pixels that pictures are brought to; 512 for Stable Diffusion 1.5. The picture is stretched to a square."""
    lanes: int = Field(default=8, ge=1)
    """Parallel read positions; the number of workers must divide it, and it must divide the batch size."""
    shuffle_rows: int = Field(default=4096, ge=0)
    """Rows in the shuffle buffer, over all lanes."""


class DiffusionEvaluationConfig(Config):
    """What ends a run: the held-out loss, and pictures of held-out products."""

    rows: int = Field(default=512, ge=1)
    """Held-out pictures of the loss, from the start of the table."""
    pictures: int = Field(default=24, ge=1)
    """Held-out products in the sheet of samples, one picture of each."""
    batch_rows: int = Field(default=64, ge=1)
    """Pictures at once."""
    prompts: PromptConfig
    """What the samples are asked for."""
    sampling: SamplingConfig = SamplingConfig()
    """How they are sampled."""


class DiffusionRunConfig(RunConfig):
    """A run that trains a generator."""

    kind: Literal["diffusion"]
    generator: PathStr | None = None
    """The generator to go on from: an artifact of kind `generator`, or a folder of diffusers' layout. Unset: one of `sizes` is built."""
    controlnet: PathStr | None = None
    """A ControlNet's folder, in place of the generator's. Where neither has one, it starts as a copy of the UNet's encoder whose
    residuals are zero (Zhang et al. 2023)."""
    architecture: Architecture | None = None
    """What that generator is, for estimates where it is not at hand."""
    sizes: SizesConfig = SizesConfig()
    """The generator that is built where there is no `generator`."""
    data: PicturesDataConfig
    """The pictures."""
    caption: CaptionConfig = CaptionConfig()
    """What is said of them."""
    trained: list[TrainedPart] = Field(default=["unet", "controlnet", "text_encoder"], min_length=1)
    """Parts that learn, the others stay frozen. `[controlnet]` is the usual choice for a generator of one's own."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The loss."""
    training: TrainingConfig = TrainingConfig()
    """The trainer."""
    evaluation: DiffusionEvaluationConfig
    """Held-out loss and samples."""

    @field_validator("trained")
    @classmethod
    def _named_once(cls, names: list[TrainedPart]) -> list[TrainedPart]:
        if len(set(names)) != len(names):
            raise ValueError(f"trained names a part twice: {', '.join(names)}")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> DiffusionRunConfig:
        if self.generator is None and self.controlnet is not None:
            raise ValueError(f"controlnet is {self.controlnet!r} without a generator; one that is built here has its own")
        if self.generator is None and self.data.size % self.sizes.multiple():
            raise ValueError(
                f"data.size is {self.data.size}; with autoencoder.patch {self.sizes.autoencoder.patch} and "
                f"{len(self.sizes.unet.channels)} levels of the UNet it must be a multiple of {self.sizes.multiple()}"
            )
        return self
