"""How views of a picture are made: every operation's strength, and two named presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from adray.config import Config


class ViewConfig(Config):
    """The chances that differ between the two views."""

    blur: float = Field(default=0.1, ge=0, le=1)
    """Probability of a Gaussian blur."""
    solarize: float = Field(default=0.0, ge=0, le=1)
    """Probability of inverting the bright values."""


PRESETS: dict[str, dict[str, Any]] = {
    # MoCo v3's recipe for ImageNet (Chen, Xie and He 2021; BYOL's asymmetric blur and solarisation), ViT's smallest crop.
    "imagenet": {
        "crop_scale": (0.08, 1.0),
        "jitter": (0.4, 0.4, 0.2, 0.1),
        "jitter_probability": 0.8,
        "greyscale": 0.2,
        "flip": 0.5,
        "views": ({"blur": 1.0, "solarize": 0.0}, {"blur": 0.1, "solarize": 0.2}),
        "jpeg": 0.0,
        "shift": 0.0,
    },
    # A choice for advertisements, not a published recipe: flips mirror text and logos, strong colour changes destroy the
    # background colour, small crops cut the copy off.
    "creative": {
        "crop_scale": (0.5, 1.0),
        "jitter": (0.2, 0.2, 0.1, 0.02),
        "jitter_probability": 0.5,
        "greyscale": 0.0,
        "flip": 0.0,
        "views": ({"blur": 0.1, "solarize": 0.0}, {"blur": 0.1, "solarize": 0.0}),
        "jpeg": 0.3,
        "shift": 0.1,
    },
}


class AugmentationConfig(Config):
    """Random changes to a picture. What is not set comes from the preset."""

    preset: Literal["imagenet", "creative"] = "creative"
    """`imagenet`: the published MoCo v3 recipe. `creative`: no flips, colours kept, larger crops."""
    crop_scale: tuple[float, float] = (0.5, 1.0)
    """Least and largest share of the picture's area that is cut out."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and largest width / height of the cut."""
    jitter: tuple[float, float, float, float] = (0.2, 0.2, 0.1, 0.02)
    """Largest change of brightness, contrast, saturation, and hue in turns."""
    jitter_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of any of those."""
    greyscale: float = Field(default=0.0, ge=0, le=1)
    """Probability of taking the colour out."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur, in pixels of a view of 224; scaled with the view's size."""
    flip: float = Field(default=0.0, ge=0, le=1)
    """Probability of mirroring left and right."""
    jpeg: float = Field(default=0.0, ge=0, le=1)
    """Probability of recompression as JPEG does it."""
    jpeg_quality: tuple[float, float] = (30, 90)
    """Least and largest quality."""
    shift: float = Field(default=0.0, ge=0, le=1)
    """Largest white margin on each side, as a share of the cut's side; moves and shrinks the picture."""
    views: tuple[ViewConfig, ViewConfig] = (ViewConfig(), ViewConfig())
    """What differs between the first and the second view."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = PRESETS.get(values.get("preset", "creative"), {})
        return {**preset, **values}

    @model_validator(mode="after")
    def _ranges(self) -> AugmentationConfig:
        limits = {"crop_scale": (0.0, 1.0), "crop_ratio": (0.0, 100.0), "blur_sigma": (0.0, 100.0), "jpeg_quality": (0.99, 99.0)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least < low <= high <= most:
                raise ValueError(f"{name} is [{low}, {high}]; it is a range within {least:g} to {most:g}, the smaller end first")
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(f"jitter is {list(self.jitter)}; no strength is negative, and hue is at most half a turn (0.5)")
        return self
