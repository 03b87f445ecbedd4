"""The `data` section of a run's config: where the tables are and how they are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr

FREE_ON_RESUME = frozenset({"quarantine_limit", "reader", "reader_labels"})
"""Fields that a resumed run may change: neither the rows nor their order depend on them."""


class DataConfig(Config):
    """Which tables a run reads, how they become standard tables, and how they are streamed."""

    path: PathStr
    """The impressions: a Parquet or CSV file, a folder, a glob, a URI, or a folder of standard tables."""
    adapter: Literal["standard", "upworthy", "open_bandit", "mapped"] = "standard"
    """What turns the source into standard tables."""
    creatives: PathStr | None = None
    """Creatives: Parquet, a folder of pictures, or WebDataset tars. Unset: `creatives*` beside the impressions, if there."""
    products: PathStr | None = None
    """Products. Unset: `products*` in the folder of standard tables, if there."""
    requests: PathStr | None = None
    """Decisions to evaluate on. Unset: `requests*` in the folder of standard tables, if there."""
    truth: PathStr | None = None
    """True click probabilities of a simulated world. Unset: `truth*` in the folder of standard tables, if there."""
    embeddings: PathStr | None = None
    """Creative vectors from an encoder."""
    attributes: PathStr | None = None
    """What was extracted from the creatives: an `attributes` table."""
    columns: dict[str, str] = Field(default_factory=dict)
    """`mapped` only: standard column -> source column. `candidates` names a list column; `creative_id` instead says
    that the source has one row per candidate, to be grouped by `request_id` and `sku_id`."""
    creative_columns: dict[str, str] = Field(default_factory=dict)
    """`mapped` only: standard column -> source column of the creatives."""
    types: dict[str, Literal["string", "integer", "float"]] = Field(default_factory=dict)
    """Types of CSV source columns, where the beginning of the file misleads."""
    list_separator: str = Field(default="|", min_length=1)
    """`mapped` only: separates the items of a list that a CSV holds as text."""
    drop_weeks: list[tuple[int, int]] = Field(default_factory=lambda: [(201325, 201402)])
    """`upworthy` only: first and last week (yyyyww) of spans to leave out. The default is the span whose randomisation
    the archive's authors doubt."""
    holdout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the latest rows, by time, kept for evaluation. Rows of one moment are never split."""
    quarantine_limit: float = Field(default=0.01, ge=0.0, le=1.0)
    """The run fails when a greater share of a table's rows cannot be used."""
    lanes: int = Field(default=8, ge=1)
    """Parallel read positions; the number of workers must divide it, and it must divide the batch size."""
    shuffle_rows: int = Field(default=65536, ge=0)
    """Rows in the shuffle buffer, over all lanes; 0 keeps the file order."""
    reader: Literal["inline", "ray"] = "inline"
    """Who reads training rows: a thread of each worker, or Ray Data tasks that can run on CPU nodes."""
    reader_labels: dict[str, str] = Field(default_factory=dict)
    """Node labels that the `ray` reader's tasks need, e.g. those of CPU nodes."""
    row_group_rows: int = Field(default=8192, ge=1)
    """Rows in each row group that is written."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.adapter == "mapped" and not self.columns:
            raise ValueError("adapter 'mapped' needs data.columns; map standard columns to yours, e.g. {request_id: req, sku_id: item}")
        if self.adapter != "mapped" and (self.columns or self.creative_columns):
            raise ValueError(f"data.columns is for adapter 'mapped', not {self.adapter!r}; drop it or set data.adapter: mapped")
        for first, last in self.drop_weeks:
            if first > last:
                raise ValueError(f"data.drop_weeks span {first}..{last} ends before it begins; swap the two")
        return self
