"""Sizes of a generator that is built from nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config

PredictionType = Literal["sample", "epsilon", "v_prediction"]


class AutoencoderConfig(Config):
    """The linear autoencoder of patches; it is fitted, not trained."""

    patch: int = Field(default=4, ge=1)
    """Side of a patch in pixels: one latent cell. A power of two, since a ControlNet halves its picture until it has as many cells."""
    latent_channels: int = Field(default=32, ge=1)
    """Principal components kept of a patch's `3 * patch ** 2` values."""
    pictures: int = Field(default=8192, ge=1)
    """Training pictures, from the start of the table, that the components and the vocabulary are taken from."""

    @model_validator(mode="after")
    def _fits(self) -> AutoencoderConfig:
        if self.patch & (self.patch - 1):
            raise ValueError(f"autoencoder.patch is {self.patch}; a ControlNet needs a power of two")
        if self.latent_channels > 3 * self.patch**2:
            raise ValueError(f"autoencoder.latent_channels is {self.latent_channels}; patches of {self.patch} px have {3 * self.patch**2}")
        return self


class TextEncoderConfig(Config):
    """The text encoder: a small CLIP text model over words."""

    vocabulary: int = Field(default=256, ge=4)
    """Words at most, with those of padding, end and the unknown word."""
    max_tokens: int = Field(default=16, ge=1)
    """Words of a prompt; longer ones are cut off."""
    width: int = Field(default=64, ge=1)
    """Width of a token, which the UNet attends to."""
    layers: int = Field(default=1, ge=1)
    """Transformer layers."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""

    @model_validator(mode="after")
    def _fits(self) -> TextEncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"text.width is {self.width}, no multiple of text.heads {self.heads}")
        return self


class UNetConfig(Config):
    """The denoiser; the ControlNet is a copy of its encoder."""

    channels: list[int] = Field(default=[64, 128], min_length=1)
    """Width of each level; each but the first halves the grid of cells."""
    attention: list[bool] = Field(default=[False, True], min_length=1)
    """Which levels attend to the text; the middle always does."""
    layers: int = Field(default=1, ge=1)
    """Residual blocks of a level."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    groups: int = Field(default=16, ge=1)
    """Groups of the normalisation."""
    inpainting: bool = True
    """Read the mask and the masked product picture beside x_t, as Stable Diffusion's inpainting UNets do. On coarse grids a small
    product has no cell of its own, and only so can the UNet know its colours. False: x_t alone, blended with the product's latents."""
    edges: list[int] = Field(default=[8, 16, 32], min_length=1)
    """Channels of the ControlNet's look at the edges; each but the first halves the picture, down to the grid of cells."""

    @model_validator(mode="after")
    def _fits(self) -> UNetConfig:
        if len(self.attention) != len(self.channels):
            raise ValueError(f"unet.attention has {len(self.attention)} entries for {len(self.channels)} unet.channels")
        for width in self.channels:
            if width % self.groups or width % self.heads:
                raise ValueError(f"unet.channels has {width}, no multiple of unet.groups {self.groups} and unet.heads {self.heads}")
        return self


class NoiseConfig(Config):
    """The noise schedule, and what the UNet predicts."""

    prediction_type: PredictionType = "sample"
    """`sample` (the clean latents), `epsilon` (the noise) or `v_prediction`. Where a cell has many latent channels and the UNet few,
    `sample` works best: noise of all channels does not pass through."""
    schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    """How the noise grows over 1000 timesteps."""
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    """First step's variance."""
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    """Last step's variance."""
    zero_terminal_snr: bool = True
    """Rescale so that nothing of the picture is left at the last timestep (Lin et al. 2024)."""

    @model_validator(mode="after")
    def _fits(self) -> NoiseConfig:
        if self.zero_terminal_snr and self.prediction_type == "epsilon":
            raise ValueError("noise.zero_terminal_snr leaves no picture in the last step, which epsilon cannot predict; set it to false")
        return self


class SizesConfig(Config):
    """A generator that is built from nothing."""

    autoencoder: AutoencoderConfig = AutoencoderConfig()
    """Pixels to latents."""
    text: TextEncoderConfig = TextEncoderConfig()
    """Prompts to tokens."""
    unet: UNetConfig = UNetConfig()
    """UNet and ControlNet."""
    noise: NoiseConfig = NoiseConfig()
    """Noise schedule."""

    @model_validator(mode="after")
    def _fits(self) -> SizesConfig:
        halvings = self.autoencoder.patch.bit_length() - 1
        if len(self.unet.edges) != halvings + 1:
            raise ValueError(
                f"unet.edges has {len(self.unet.edges)} entries; to come to cells of {self.autoencoder.patch} px it needs {halvings + 1}"
            )
        return self

    def multiple(self) -> int:
        """What a picture's side must be a multiple of, in pixels."""
        return int(self.autoencoder.patch * 2 ** (len(self.unet.channels) - 1))
