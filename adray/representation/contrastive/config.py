"""Config of contrastive training: which pairs, which loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr

View = Literal["image_copy", "same_sku"]
"""Which two looks at creatives make a pair."""


class HardNegativesConfig(Config):
    """Wrong documents that look right, by the vectors of an earlier encoder."""

    embeddings: PathStr
    """Table `embeddings` of the same creatives, from `launch.py embed`."""
    count: int = Field(default=1, ge=1, le=16)
    """Hard negatives of each pair."""
    ceiling: float = Field(default=0.95, gt=-1.0, le=1.0)
    """Creatives more similar than this are taken for the same thing and left alone."""


class PairsConfig(Config):
    """What is pulled together."""

    path: PathStr
    """Table `creatives` (a Parquet file, folder or glob), or a folder of tables that holds `creatives.parquet`."""
    views: list[View] = Field(default=["image_copy"], min_length=1)
    """`image_copy`: a creative's picture and its copy. `same_sku`: two creatives of a SKU, whole."""
    holdout: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Share of the SKUs that is only evaluated on."""
    hard_negatives: HardNegativesConfig | None = None
    """Further wrong documents; in-batch ones are always there."""
    picture_side: int = Field(default=512, ge=16)
    """Pictures are decoded at about this shorter side where they are larger."""
    lanes: int = Field(default=8, ge=1)
    """Parallel read positions; the workers must divide it, and it the batch size."""
    shuffle_rows: int = Field(default=4096, ge=0)
    """Pairs shuffled together."""
    row_group_rows: int = Field(default=64, ge=1)
    """Rows per row group of the pairs' table, small because each row holds pictures."""

    @model_validator(mode="after")
    def _views_differ(self) -> PairsConfig:
        if len(set(self.views)) != len(self.views):
            raise ValueError(f"pairs.views {self.views} names a view twice")
        return self


class InfoNceConfig(Config):
    """The contrastive loss."""

    temperature: float = Field(default=0.05, gt=0.0, le=10.0)
    """Cosines are divided by it; 0.02 to 0.05 for vision-language embedders."""
    learn_temperature: bool = False
    """Train it too, its inverse held at most 100."""
    both_directions: bool = True
    """Also rank queries for each document."""
    matryoshka: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Vector lengths whose losses are averaged, so that a vector cut to any of them still works; empty: the full length."""
    mask_same: bool = True
    """Take columns of the same SKU, picture or copy out of the negatives."""
    mask_margin: float | None = Field(default=0.1, gt=0.0)
    """Take columns out that score above the positive by more than this; null keeps them."""
    log_q: bool = False
    """Subtract the log of a document's frequency among the pairs, so that common ones are not pushed away for being common."""
    chunk_rows: int = Field(default=0, ge=0)
    """GradCache: pairs encoded at a time, so that memory does not grow with the batch; 0: all at once."""
