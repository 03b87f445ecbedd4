"""What a generator is told of a training picture."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field, field_validator

from adray.config import Config

_SLOT = re.compile(r"\{([^{}]*)\}")


class CaptionConfig(Config):
    """Captions from a table's columns."""

    template: str = Field(default="{copy}, {prompt}", min_length=1)
    """Text with slots; a slot is a column of the table."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of pictures without any caption, which teaches the unconditional branch of guidance (Ho and Salimans 2022)."""
    kept_clauses: int = Field(default=2, ge=1)
    """How many of column `prompt`'s clauses, parted by commas, are always said."""
    shortened: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of pictures whose further clauses are left out, so that a short request is answered with all that may be in such pictures."""

    @field_validator("template")
    @classmethod
    def _has_slots(cls, text: str) -> str:
        if not _SLOT.findall(text):
            raise ValueError(f"caption.template {text!r} has no slot such as {{prompt}}; all pictures would have one caption")
        return text

    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(dict.fromkeys(_SLOT.findall(self.template)))


def caption(config: CaptionConfig, row: Mapping[str, str | None], shortened: bool = False) -> str:
    """One picture's caption.

    Args:
        config: The template.
        row: Texts by column; None counts as empty.
        shortened: Leave out the prompt's further clauses.
    """
    texts = {name: (row.get(name) or "").strip() for name in config.columns()}
    if shortened and "prompt" in texts:
        texts["prompt"] = ",".join(texts["prompt"].split(",")[: config.kept_clauses])
    # Not `str.format`: a title may hold braces itself.
    return _SLOT.sub(lambda slot: texts[slot.group(1)], config.template).strip(" ,")
