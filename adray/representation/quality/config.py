"""What the quality gate measures and what it asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr

TaskName = Literal["same_sku", "image_to_image", "copy_to_image", "image_to_copy", "category"]
SplitName = Literal["random", "new_sku", "new_time"]


class QualityConfig(Config):
    """Sample, splits, cut-offs and the bars of the gate."""

    max_creatives: int = Field(default=4000, ge=10)
    """Creatives judged at most; whole SKUs are drawn, so that same-SKU neighbours stay together."""
    ks: list[Annotated[int, Field(ge=1)]] = Field(default=[1, 5, 10], min_length=1)
    """Cut-offs of Recall@k, Hit@k, nDCG@k and mAP@k."""
    query_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of creatives (split `random`), SKUs (`new_sku`) or time (`new_time`) that is queried."""
    duplicate_bits: int = Field(default=4, ge=0, le=32)
    """Two pictures are near-duplicates when both perceptual hashes differ in at most this many of 64 bits."""
    duplicate_colour: float = Field(default=8.0, ge=0, le=255)
    """... and their thumbnails differ by at most this many levels on average."""
    ablation: bool = True
    """Embed the judged creatives again without picture, without copy, and with other creatives' pictures."""
    primary: TaskName = "image_to_image"
    """The task that has to improve over `previous`, or beat chance where there is none."""
    primary_split: SplitName = "new_sku"
    """The split in which it has to."""
    previous: PathStr | None = None
    """Run folder (or `embeddings` table) of the version to compare with, over the same creatives."""
    index: PathStr | None = None
    """A published index over these vectors, whose ANN recall is measured."""
    least_ann_recall: float = Field(default=0.99, ge=0, le=1)
    """What the index must reach at the largest cut-off."""
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap draws."""
    sheet_queries: int = Field(default=10, ge=1, le=50)
    """Queries on the page of nearest neighbours."""

    @model_validator(mode="after")
    def _primary_is_measured(self) -> QualityConfig:
        if not self.ablation and self.primary not in ("same_sku", "category"):
            raise ValueError(
                f"primary is {self.primary!r}, which needs vectors of pictures alone, but ablation is false; "
                "set ablation to true, or primary to same_sku or category"
            )
        return self
