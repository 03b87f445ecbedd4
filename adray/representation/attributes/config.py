"""Config of an extraction: which creatives, which extractor for which field, how many workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.data.piecework.config import WorkConfig
from adray.representation.attributes.logos import LogoConfig
from adray.representation.attributes.mllm_config import MllmExtractorConfig
from adray.representation.attributes.ocr import OcrConfig
from adray.representation.attributes.records import COLUMNS


class CreativesConfig(Config):
    """Where creatives and their products' titles are."""

    creatives: PathStr
    """Table `creatives` (Parquet, CSV, a folder of pictures, WebDataset tars), or a .json or .yaml list of records."""
    products: PathStr | None = None
    """Table `products`: titles, and the brands among its attributes. Unset: `products*` beside the creatives, if there."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Records only: `creative_id`, `sku_id`, `title`, `copy` or `brand` -> the records' field."""
    picture: str | None = None
    """Records only: path of a record's picture below the file's folder, with fields in braces: `{Id}.webp`."""
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    """Greatest share of creatives that may be unusable."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in COLUMNS:
                raise ValueError(f"{name!r} is not one of {', '.join(COLUMNS)}")
        return columns


class FieldsConfig(Config):
    """Who reads each field; `none` leaves it unknown."""

    text_boxes: Literal["rules", "none"] = "rules"
    """`rules`: OCR."""
    background_colour: Literal["rules", "none"] = "rules"
    """`rules`: measured."""
    logos: Literal["rules", "none"] = "rules"
    """`rules`: compared with `logos.gallery`; without a gallery there are none."""
    entities: Literal["rules", "mllm", "none"] = "rules"
    """`rules`: lexicons, brands of the catalogue, numbers with units."""
    promotion: Literal["rules", "heads", "mllm", "none"] = "rules"
    """`rules`: lexicon. `heads`: classifiers on vectors. `mllm`: a vision-language model."""
    audience: Literal["rules", "heads", "mllm", "none"] = "rules"
    """As `promotion`."""
    style: Literal["rules", "heads", "mllm", "none"] = "rules"
    """As `promotion`."""
    selling_points: Literal["rules", "mllm", "none"] = "rules"
    """`rules`: lexicon."""

    def of(self, extractor: str) -> frozenset[str]:
        """The fields that an extractor reads."""
        return frozenset(name for name, value in self if value == extractor)


class HeadsConfig(Config):
    """Classifiers on vectors."""

    artifact: PathStr
    """Artifact of kind `attribute_heads`."""
    embeddings: PathStr
    """Table of the creatives' vectors, by the encoder that the classifiers were trained on."""


class JobConfig(WorkConfig):
    """How the work is done; nothing here changes a value."""

    batch_rows: int = Field(default=16, ge=1)
    """Creatives decoded and held at a time by one worker."""
    chunk_rows: int = Field(default=256, ge=1)
    """Creatives per work item: what is lost when a worker dies, and what is skipped as a whole on resuming."""


class AttributesRunConfig(RunConfig):
    """Kind `attributes`: read every creative's attributes (`extract`)."""

    kind: Literal["attributes"]
    data: CreativesConfig
    """The creatives."""
    fields: FieldsConfig = FieldsConfig()
    """Who reads each field."""
    ocr: OcrConfig = OcrConfig()
    """How texts in pictures are read."""
    brands: list[str] = Field(default_factory=list)
    """Brand names to find in texts, besides those of the products."""
    logos: LogoConfig = LogoConfig()
    """Brands' signs to find in pictures."""
    heads: HeadsConfig | None = None
    """Needed where `fields` names heads."""
    mllm: MllmExtractorConfig | None = None
    """Needed where `fields` names mllm."""
    job: JobConfig = JobConfig()
    """How the work is done."""
    contact_sheet: int = Field(default=12, ge=0, le=64)
    """Pictures shown in the report with what was read off them."""

    @model_validator(mode="after")
    def _has_what_it_names(self) -> AttributesRunConfig:
        for extractor in ("heads", "mllm"):
            named = sorted(self.fields.of(extractor))
            if named and getattr(self, extractor) is None:
                raise ValueError(f"fields.{named[0]} is {extractor!r} and section {extractor!r} is missing; add it")
        return self
