"""The parameters of a world of annotated pictures."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.data.labels import LABELS

Texture = Literal["plain", "striped", "dotted"]

PAPER_MIX = {"available": 0.56, "space_mismatch": 0.13, "size_mismatch": 0.11, "indistinctiveness": 0.09, "shape_hallucination": 0.11}
"""56.4 % of single-shot pictures were judged available (Du et al. 2024, Table 3). How the rest divides is not published: ours."""


class CutoutsConfig(Config):
    """Where products come from."""

    source: Literal["drawn", "folder"] = "drawn"
    """`drawn` shapes, or a `folder` of RGBA pictures."""
    path: PathStr | None = None
    """`folder` only: the pictures, at any depth; PNG (also palette and interlaced), WebP, GIF or TIFF with transparency."""
    quarantine_limit: float = Field(default=0.01, ge=0.0, le=1.0)
    """`folder` only: the run fails when a greater share of the files has no usable cut-out."""

    @model_validator(mode="after")
    def _has_a_path(self) -> CutoutsConfig:
        if (self.source == "folder") != (self.path is not None):
            raise ValueError(
                f"cutouts.source is {self.source!r}, cutouts.path {self.path!r}; a folder needs a path, drawn shapes take none"
            )
        return self


class AnnotationsConfig(Config):
    """A world of generated product pictures with a reviewer who is never wrong."""

    products: int = Field(default=400, ge=2)
    """Number of products; with `cutouts.source: folder`, the files are taken in turn."""
    holdout_products: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of the products whose pictures are held out: no product is in both parts."""
    pictures: int = Field(default=8_000, ge=1)
    """Pictures of the training products."""
    holdout_pictures: int = Field(default=1_500, ge=1)
    """Pictures of the held-out products."""
    mix: dict[str, float] = PAPER_MIX
    """Share of each label."""
    difficulty: float = Field(default=0.3, ge=0.0, le=1.0)
    """How small defects are: 0 makes them blatant, 1 brings them near what is still available."""
    parts_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of products that own legs, a base, an arm or a knob: the parts that scenes grow onto products when they hallucinate."""
    size: int = Field(default=64, ge=32, le=512)
    """Width and height of a picture in pixels."""
    textures: list[Texture] = Field(default=["plain", "striped", "dotted"], min_length=1)
    """What walls are covered with; each is drawn equally often. Plain walls are the easiest to paint and to measure."""
    cutouts: CutoutsConfig = CutoutsConfig()
    """The products' pictures."""

    @model_validator(mode="after")
    def _consistent(self) -> AnnotationsConfig:
        if strangers := sorted(set(self.mix) - set(LABELS)):
            raise ValueError(f"mix names {strangers[0]!r}; labels are {', '.join(LABELS)}")
        if min(self.mix.values(), default=0.0) < 0 or not math.isclose(sum(self.mix.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"mix is {self.mix}; shares are at least 0 and sum to 1")
        if len(set(self.textures)) != len(self.textures):
            raise ValueError(f"textures is {self.textures}; name each once")
        if not 1 <= round(self.holdout_products * self.products) < self.products:
            raise ValueError(f"holdout_products is {self.holdout_products} of {self.products} products; leave at least one in each part")
        return self

    def shares(self) -> list[float]:
        """The mix in the order of `LABELS`."""
        return [self.mix.get(label, 0.0) for label in LABELS]


class AnnotationsRunConfig(RunConfig):
    """A run that simulates annotated pictures."""

    kind: Literal["annotations"]
    world: AnnotationsConfig = AnnotationsConfig()
    """Products, scenes and defects."""
