"""Prompts with slots, drawn anew for every attempt and the same again for the same seed, request and attempt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import xxhash
from pydantic import Field, field_validator, model_validator

from adray.config import Config

TITLE, COLOUR = "title", "colour"
_SLOT = re.compile(r"\{([^{}]*)\}")
_SEEDS = 2**31


class PromptEntry(Config):
    """One prompt; rounds of attempts go through the entries in turn."""

    prompt: str = Field(min_length=1)
    """What to paint; `{title}` is the product's title, `{colour}` a colour drawn for each picture."""
    negative_prompt: str = ""
    """What not to paint; the same slots."""
    image_scale: float | None = Field(default=None, gt=0, le=1)
    """Placement's `image_scale` for this entry; unset takes the placement's."""

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _known_slots(cls, text: str) -> str:
        for slot in _SLOT.findall(text):
            if slot not in (TITLE, COLOUR):
                raise ValueError(f"slot {{{slot}}} is unknown; slots are {{{TITLE}}} and {{{COLOUR}}}")
        return text


class PromptConfig(Config):
    """The prompts, and the colours that fill their slot."""

    entries: list[PromptEntry] = Field(min_length=1)
    """Attempt k takes entry k mod n, k counted from 0."""
    colours: list[str] = []
    """What `{colour}` is drawn from."""

    @model_validator(mode="after")
    def _has_colours(self) -> PromptConfig:
        for entry in self.entries:
            if f"{{{COLOUR}}}" in entry.prompt + entry.negative_prompt and not self.colours:
                raise ValueError(f"prompt {entry.prompt!r} has a slot {{{COLOUR}}} and 'colours' is empty; name some")
        return self

    def reads_titles(self) -> bool:
        """Whether any prompt has a slot for the title."""
        return any(f"{{{TITLE}}}" in entry.prompt for entry in self.entries)


@dataclass(frozen=True)
class Drawn:
    """What one picture is made from.

    Attributes:
        prompt: With its slots filled.
        negative: Likewise.
        image_scale: For its placement; None takes the placement's.
        seed: Of its noise, in [0, 2^31).
    """

    prompt: str
    negative: str
    image_scale: float | None
    seed: int


def draw(config: PromptConfig, seed: int, request: str, attempt: int, title: str) -> Drawn:
    """The prompt and the noise seed of one attempt; they depend on the arguments alone.

    Args:
        config: The prompts.
        seed: The run's.
        request: Id of the request.
        attempt: Counted from 0.
        title: The product's.
    """
    entry = config.entries[attempt % len(config.entries)]
    words = {TITLE: title.strip()}
    if config.colours:
        words[COLOUR] = config.colours[_number(seed, request, attempt, "colour") % len(config.colours)]
    return Drawn(_filled(entry.prompt, words), _filled(entry.negative_prompt, words), entry.image_scale, noise_seed(seed, request, attempt))


def noise_seed(seed: int, request: str, attempt: int) -> int:
    """Seed of an attempt's noise, in [0, 2^31)."""
    return _number(seed, request, attempt, "noise") % _SEEDS


def _filled(text: str, words: Mapping[str, str]) -> str:
    # Not `str.format`: a title may hold braces itself.
    return _SLOT.sub(lambda slot: words[slot.group(1)], text).strip()


def _number(seed: int, request: str, attempt: int, use: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}\0{attempt}\0{use}\0{request}".encode())
