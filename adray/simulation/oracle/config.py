"""Config of a run in which the measuring oracle judges pictures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adray.config import Config, PathStr, RunConfig


class OracleDataConfig(Config):
    """What is judged, and against what."""

    pictures: PathStr
    """Parquet with `sku_id`, `image`, `cutout` (RGBA, on a canvas of the picture's size) and an id; `prompt`, `copy`, `seed`,
    `request_id`, `attempt`, `accepted` and `label` are used where they are there. Tables `annotations` and `generated` have this form."""
    products: PathStr
    """Table `products` whose `attributes` hold `height_cm`, as simulated worlds write it."""
    id: str | None = None
    """Column that names a picture; unset: the first that is there of annotation_id, image_id, creative_id and request_id."""
    baseline: PathStr | None = None
    """A second table of pictures of the same requests, to gain over. A fair comparison is of first attempts: where others were made
    only because one failed, they are of the harder requests."""
    pair_on: list[str] = []
    """Columns that name a request in both tables; unset: request_id (and attempt), else sku_id and seed, else sku_id, whichever both
    have."""
    verdicts: PathStr | None = None
    """Table `verdicts` of an inspector over the same pictures, by their ids, to be held against the oracle."""
    quarantine_limit: float = Field(default=0.01, ge=0.0, le=1.0)
    """The run fails when a greater share of the pictures cannot be judged."""


class OracleRunConfig(RunConfig):
    """Kind `oracle`: judge pictures by measuring them."""

    kind: Literal["oracle"]
    data: OracleDataConfig
    """The pictures."""
    holdout: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Part the table that is written by product, this share held out, into `train` and `holdout`; unset: one table."""
    diversity_pictures: int = Field(default=2_000, ge=2)
    """Most pictures whose backgrounds are compared pair by pair, spread evenly over the table."""
    resamples: int = Field(default=1_000, ge=1)
    """Bootstrap draws of products, for the intervals."""
