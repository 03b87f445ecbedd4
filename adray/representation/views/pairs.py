"""Which two looks at a creative make a positive pair, beyond two augmentations of its picture.

Kinds are drawn per creative with given weights, from random numbers that belong to the creative. A kind that a creative
cannot have (no sibling, no copy) falls back to two augmented views of itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field, model_validator

from adray.config import Config
from adray.representation.creatives import Creatives
from adray.representation.views.keyed import Keyed

PAIR_KINDS = ("augmented", "copy_dropout", "same_sku", "modality", "image_copy")
"""How a pair can be made; see `PairConfig`."""


class PairConfig(Config):
    """Relative weights of the kinds of pairs."""

    augmented: float = Field(default=1.0, ge=0)
    """Two augmented views of the picture, the same copy."""
    copy_dropout: float = Field(default=0.0, ge=0)
    """Also some words of the copy left out, others in each view."""
    same_sku: float = Field(default=0.0, ge=0)
    """The creative and another one of its SKU."""
    modality: float = Field(default=0.0, ge=0)
    """The whole creative, and its picture alone or its copy alone."""
    image_copy: float = Field(default=0.0, ge=0)
    """Its picture alone, and its copy alone."""
    word_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of words left out by `copy_dropout`."""

    @model_validator(mode="after")
    def _some(self) -> PairConfig:
        if not sum(self.weights()):
            raise ValueError("every kind of pair has weight 0; give one a positive weight")
        return self

    def weights(self) -> list[float]:
        """In the order of `PAIR_KINDS`."""
        return [getattr(self, kind) for kind in PAIR_KINDS]


@dataclass(frozen=True)
class Look:
    """What one view shows.

    Attributes:
        row: Whose row, in the table that siblings are looked up in.
        picture: Whether its picture is seen.
        copy: Its copy as it is seen; empty where it is not.
    """

    row: int
    picture: bool
    copy: str


@dataclass(frozen=True)
class PairPlan:
    """The two looks of each creative of a batch, and how each pair was made (indices into `PAIR_KINDS`)."""

    first: list[Look]
    second: list[Look]
    kinds: np.ndarray


def siblings(sku_ids: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Rows of each SKU."""
    rows: dict[str, list[int]] = {}
    for row, sku in enumerate(sku_ids):
        rows.setdefault(sku, []).append(row)
    return {sku: np.array(found) for sku, found in rows.items()}


def plan_pairs(creatives: Creatives, rows: np.ndarray, of_sku: Mapping[str, np.ndarray], keys: Keyed, config: PairConfig) -> PairPlan:
    """Choose each creative's kind of pair and what its two views show.

    Args:
        creatives: The whole table; of pictures only whether there is one matters.
        rows: int64 `[n]`, the batch's rows.
        of_sku: From `siblings`.
        keys: The n creatives' random numbers.
        config: Weights and dropout.

    Returns:
        The plan.
    """
    shares = np.cumsum(config.weights()) / sum(config.weights())
    drawn = np.searchsorted(shares, keys.uniform("pair.kind", 1)[:, 0].numpy(), side="right")
    others = keys.uniform("pair.sibling", 1)[:, 0].numpy()
    sides = keys.uniform("pair.side", 1)[:, 0].numpy()
    first, second, kinds = [], [], np.zeros(len(rows), np.int64)
    for i, row in enumerate(rows):
        has_picture, copy = creatives.pictures[row] is not None, creatives.copies[row]
        kind = PAIR_KINDS[_possible(int(drawn[i]), has_picture, copy, len(of_sku[creatives.sku_ids[row]]))]
        a = b = Look(int(row), has_picture, copy)
        if kind == "copy_dropout":
            one = Keyed(keys.keys[i : i + 1])
            a, b = (Look(int(row), has_picture, dropped_words(copy, one, f"pair.words.{v}", config.word_dropout)) for v in (0, 1))
        elif kind == "same_sku":
            rest = of_sku[creatives.sku_ids[row]]
            rest = rest[rest != row]
            other = int(rest[int(others[i] * len(rest))])
            b = Look(other, creatives.pictures[other] is not None, creatives.copies[other])
        elif kind == "modality":
            b = Look(int(row), True, "") if sides[i] < 0.5 else Look(int(row), False, copy)
        elif kind == "image_copy":
            a, b = Look(int(row), True, ""), Look(int(row), False, copy)
        first.append(a)
        second.append(b)
        kinds[i] = PAIR_KINDS.index(kind)
    return PairPlan(first, second, kinds)


def _possible(kind: int, has_picture: bool, copy: str, of_sku: int) -> int:
    name, has_copy = PAIR_KINDS[kind], bool(copy.strip())
    impossible = {
        "copy_dropout": not has_copy,
        "same_sku": of_sku < 2,
        "modality": not (has_picture and has_copy),
        "image_copy": not (has_picture and has_copy),
    }
    return 0 if impossible.get(name, False) else kind


def dropped_words(copy: str, key: Keyed, name: str, share: float) -> str:
    """A copy with some of its words left out, at least one kept. Text without spaces, as Chinese is, is taken by characters.

    Args:
        copy: Not blank.
        key: One row's random numbers.
        name: What they are for.
        share: Probability of leaving a word out.
    """
    words = copy.split()
    pieces, glue = (words, " ") if len(words) > 1 else (list(copy.strip()), "")
    draws = key.uniform(name, len(pieces))[0]
    kept = [piece for piece, keep in zip(pieces, (draws >= share).tolist(), strict=True) if keep]
    return glue.join(kept) if kept else pieces[int(torch.argmax(draws))]
