"""Config of an inspection: which pictures, which inspector, how many workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adray.config import Config, PathStr, RunConfig
from adray.data.piecework.config import ModelWorkConfig


class PicturesConfig(Config):
    """Where the pictures are."""

    pictures: PathStr
    """Parquet with `sku_id`, `image`, `cutout` (RGBA, on a canvas of the picture's size; not needed by an inspector that reads no
    product) and an id; `copy`, `prompt`, `seed`, `attempt`, `label` and `accepted` are used where they are there. Tables
    `annotations` and `generated` have this form."""
    id: str | None = None
    """Column that names a picture; unset: the first that is there of image_id, annotation_id, creative_id and request_id."""
    quarantine_limit: float = Field(default=0.01, ge=0.0, le=1.0)
    """The run fails when a greater share of the pictures cannot be inspected."""


class InspectionJobConfig(ModelWorkConfig):
    """How the work is done; nothing here changes a verdict but by float rounding."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """What the inspector computes in."""


class InspectionRunConfig(RunConfig):
    """Kind `inspection`: a trained inspector's verdict on every picture (`inspect`)."""

    kind: Literal["inspection"]
    artifact: PathStr
    """Folder of an inspector's artifact, e.g. `runs/rfnet/export/rfnet`."""
    data: PicturesConfig
    """The pictures."""
    job: InspectionJobConfig = InspectionJobConfig()
    """How the work is done."""
    contact_sheet: int = Field(default=12, ge=0, le=120)
    """Accepted pictures, and as many refused ones, shown in the report."""
