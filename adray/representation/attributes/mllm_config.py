"""Config of the extractor that asks a vision-language model."""

from __future__ import annotations

from pydantic import Field

from adray.config import Config
from adray.representation.encoders.mllm_config import MllmConfig


class MllmExtractorConfig(Config):
    """A vision-language model that answers in JSON of a given schema."""

    model: MllmConfig
    """The model: a checkpoint's folder or sizes. Its adapters, instruction and padding are not used here."""
    instruction: str = (
        "Read the advertising creative: its picture, its copy and the text in its picture. "
        "Answer in JSON. Answer unknown for whatever cannot be seen or read; do not guess."
    )
    """The system turn; its hash is kept with every value."""
    retries: int = Field(default=2, ge=0, le=10)
    """How often an invalid answer is asked for again, by sampling; then the fields are unknown."""
    temperature: float = Field(default=0.7, gt=0)
    """Of the retries; the first answer takes the likeliest token each time."""
    most_tokens: int = Field(default=512, ge=8)
    """Longest answer; one cut off there is invalid."""
    constrained: bool = True
    """Let the schema's grammar allow tokens (llguidance). Off, answers are checked all the same."""
    least_confidence: float = Field(default=0.3, ge=0, le=1)
    """Values of less confidence (geometric mean of their tokens' probabilities) are unknown."""
