"""Config of a generation: which products, which generator and prompts, who inspects, how often it is tried again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.data.piecework.config import WorkConfig
from adray.generation.placement import PlacementConfig
from adray.generation.prompts import PromptConfig
from adray.generation.sampler import SamplingConfig


class RequestsConfig(Config):
    """Which products want pictures."""

    requests: PathStr
    """Any table with `sku_id` and a product picture, `cutout` or else `image` (`products`, `annotations`, ...), or a folder of
    product pictures. `title` or else `copy` is the product's title."""
    per: Literal["product", "row"] = "product"
    """One request per product, from its first row, or one per row."""
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    """Greatest share of requests that may be unusable."""


class JobConfig(WorkConfig):
    """How the work is done; nothing here changes what a seed draws."""

    batch_rows: int = Field(default=16, ge=1)
    """Pictures made at a time by one worker."""
    chunk_rows: int = Field(default=64, ge=1)
    """Requests whose attempts are made together, at least a work item: what is lost when a worker dies."""


class GenerationRunConfig(RunConfig):
    """Kind `generation`: make pictures of products, inspect them, and try again what fails (`generate`)."""

    kind: Literal["generation"]
    data: RequestsConfig
    """The requests."""
    generator: PathStr
    """Artifact of kind `generator`, or a folder in diffusers' layout (unet/, vae/, text_encoder/, tokenizer/, scheduler/)."""
    controlnet: PathStr | None = None
    """Another folder whose ControlNet is used: a published or a fine-tuned one."""
    inspector: PathStr | None = None
    """Artifact of kind `rfnet` that judges every picture. Unset: nothing is judged, and every first picture is kept."""
    threshold: float | None = Field(default=None, gt=0, le=1)
    """Least probability of `available` that is accepted. Unset: `available` must be the most probable label."""
    attempts: int = Field(default=4, ge=1)
    """Most pictures of one request; 1 is plain generation. Without an inspector there is one."""
    per_request: int = Field(default=1, ge=1)
    """Pictures wanted of each request, each with attempts of its own."""
    placement: PlacementConfig = PlacementConfig()
    """Where products go."""
    prompts: PromptConfig
    """What is asked for."""
    sampling: SamplingConfig = SamplingConfig()
    """How pictures are sampled."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the generator's arithmetic."""
    keep_refused: bool = True
    """Keep refused pictures in table `generated`; else only a failed request's best one."""
    job: JobConfig = JobConfig()
    """How the work is done."""
    contact_sheet: int = Field(default=24, ge=0, le=96)
    """Pictures shown in the report."""

    @model_validator(mode="after")
    def _threshold_needs_a_judge(self) -> GenerationRunConfig:
        if self.inspector is None and self.threshold is not None:
            raise ValueError(f"field 'threshold' is {self.threshold} and there is no inspector; name one or leave the threshold out")
        return self

    def most_attempts(self) -> int:
        """Most pictures of one request: 1 where nothing is judged."""
        return 1 if self.inspector is None else self.attempts
