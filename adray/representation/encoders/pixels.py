"""What encoders that read pixels from scratch share: squares in, normalised floats to the backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adray.errors import DataError
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.towers import square

MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean per channel, of values in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation per channel."""


class PixelEncoder(Encoder):
    """An encoder of pictures alone: `backbone` maps normalised pixels to features.

    Args:
        kind: Its name in `transform`.
        size: Side of the square that a whole picture is brought to, in pixels.
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self._kind, self.size = kind, size
        self.register_buffer("_mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(STD)[:, None, None], persistent=False)
        self._mean: Tensor
        self._std: Tensor

    def backbone(self, pixels: Tensor) -> Tensor:
        """Normalised float `[n, 3, size, size]` to features, float `[n, dim]`."""
        raise NotImplementedError

    def prepare(self, creatives: Creatives) -> EncoderInputs:
        """Squares, uint8 `[n, 3, size, size]`.

        Raises:
            DataError: If a creative has no picture.
        """
        for creative_id, picture in zip(creatives.creative_ids, creatives.pictures, strict=True):
            if picture is None:
                raise DataError(f"creative {creative_id!r} has no picture, and a {self._kind} reads nothing else", "leave it out")
        squares = [square(picture, self.size) for picture in creatives.pictures if picture is not None]
        pixels = np.stack(squares) if squares else np.zeros((0, 3, self.size, self.size), np.uint8)
        return EncoderInputs({"pixels": torch.from_numpy(pixels)}, len(creatives))

    def pooled(self, inputs: EncoderInputs) -> Tensor:
        """Features, float `[n, dim]`; pixels are uint8, or float in [0, 1] as augmented views are."""
        pixels = inputs.tensors["pixels"]
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        return self.backbone((pixels - self._mean) / self._std)

    def transform(self) -> Mapping[str, Any]:
        """Resizing and normalisation."""
        return {"kind": self._kind, "image_size": self.size, "resize": "bicubic, whole picture to a square", "mean": MEAN, "std": STD}
