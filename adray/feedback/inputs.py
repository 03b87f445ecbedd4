"""What an inspector reads: pictures, maps and titles as tensors, on the CPU and without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from adray.data.bad_rows import BadRowsError
from adray.data.labels import LABELS
from adray.data.pictures import image_pixels
from adray.errors import DataError
from adray.feedback.config import PICTURES, ModelConfig, RFNetConfig
from adray.feedback.encoders import PADDING, START, Titles

PROMPT_WORDS = 512
"""Rows that the words of prompts are hashed to."""
_LONGEST_PROMPT = 64


@dataclass(frozen=True)
class Inputs:
    """n pictures to be judged.

    Attributes:
        pictures: Name of `PICTURES` -> float `[n, 3, side, side]` in [0, 1], those that the model reads.
        tokens: int64 `[n, length]`, the titles; None where the model reads none.
        mask: int64 `[n, length]`, 1 where a token is.
        labels: int64 `[n]`, index into `LABELS`; None where unknown.
        words: float `[n, PROMPT_WORDS]`, 1 for each word of the prompt that a picture was generated from; None where not asked for.
    """

    pictures: dict[str, Tensor]
    tokens: Tensor | None = None
    mask: Tensor | None = None
    labels: Tensor | None = None
    words: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.pictures.values())))

    def to(self, device: Any) -> Inputs:
        """Copy to a device."""

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=True)

        pictures = {name: value.to(device, non_blocking=True) for name, value in self.pictures.items()}
        others = {name: moved(getattr(self, name)) for name in ("tokens", "mask", "labels", "words")}
        return replace(self, pictures=pictures, **others)


def modalities(config: ModelConfig) -> tuple[str, ...]:
    """What a model reads: some of `PICTURES`, in their order, and `copy`."""
    if not isinstance(config, RFNetConfig):
        return ("generated",)
    return tuple(name for name in (*PICTURES, "copy") if name in config.modalities)


def on_white(cutouts: Tensor) -> Tensor:
    """Cut-outs, float `[n, 4, height, width]` in [0, 1] with straight alpha, on white: `[n, 3, height, width]`."""
    alpha = cutouts[:, 3:]
    return cutouts[:, :3] * alpha + (1.0 - alpha)


def resized(pictures: Tensor, side: int) -> Tensor:
    """float `[n, c, height, width]` brought to `[n, c, side, side]`, its aspect not kept; smoothed when reduced."""
    if pictures.shape[2:] == (side, side):
        return pictures
    return F.interpolate(pictures, (side, side), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def as_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 `[height, width, c]` to float `[1, c, height, width]` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255.0


@dataclass(frozen=True)
class Collate:
    """Rows of table `annotations`, with their maps, to inputs.

    Attributes:
        model: Names what is read and its sizes.
        titles: Tokenises titles; None where the model reads none.
        prompts: Also read the prompts' words.
    """

    model: ModelConfig
    titles: Titles | None
    prompts: bool = False

    def columns(self) -> list[str]:
        """The columns that are read."""
        named = {"product": "cutout", "generated": "image"}
        return ["label", *(["prompt"] if self.prompts else []), *(named.get(name, name) for name in modalities(self.model))]

    def __call__(self, rows: pa.Table) -> Inputs:
        """Decode, resize and tokenise.

        Raises:
            BadRowsError: For rows with a picture that cannot be decoded or a label that is unknown.
        """
        bad: dict[int, str] = {}
        pictures: dict[str, Tensor] = {}
        named = {"product": "cutout", "generated": "image"}
        for name in modalities(self.model):
            if name != "copy":
                pictures[name] = self._pictures(rows.column(named.get(name, name)), name, bad)
        labels = [LABELS.index(label) if label in LABELS else -1 for label in rows.column("label").to_pylist()]
        for row, label in enumerate(labels):
            if label < 0:
                bad.setdefault(row, f"label {rows.column('label')[row].as_py()!r} is unknown")
        if bad:
            raise BadRowsError(sorted(bad.items()))
        tokens = mask = None
        if self.titles is not None:
            tokens, mask = self.titles([text or "" for text in rows.column("copy").to_pylist()])
        words = prompt_words(rows.column("prompt").to_pylist()) if self.prompts else None
        return Inputs(pictures, tokens, mask, torch.tensor(labels), words)

    def _pictures(self, column: pa.ChunkedArray, name: str, bad: dict[int, str]) -> Tensor:
        side = self.model.image_size
        made = []
        for row, image in enumerate(column.to_pylist()):
            try:
                made.append(resized(_channels(as_tensor(image_pixels(image)), name), side))
            except (DataError, OSError) as error:
                bad.setdefault(row, f"{name}: {error.problem if isinstance(error, DataError) else error}")
                made.append(torch.zeros(1, 3, side, side))
        return torch.cat(made)


def prompt_words(prompts: Sequence[str | None]) -> Tensor:
    """Which words each prompt holds, hashed: float `[n, PROMPT_WORDS]` of 0 and 1; a missing prompt has none."""
    # The tokeniser keeps its first rows for what is no word.
    tokens, _ = Titles(_LONGEST_PROMPT, PROMPT_WORDS, None)([prompt or "" for prompt in prompts])
    found = torch.zeros(len(prompts), PROMPT_WORDS)
    found.scatter_(1, tokens, 1.0)
    found[:, [START, PADDING]] = 0.0
    return found


def _channels(picture: Tensor, name: str) -> Tensor:
    if picture.shape[1] == 4:
        return on_white(picture)
    if name == "product":
        raise DataError("the product picture has no alpha channel", "")
    return picture


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Equal-sized `[1, c, height, width]` to `[n, c, height, width]`."""
    return torch.cat(list(parts))
