"""What MoCo's module is fed: raw pictures whose views it makes itself, ready views, or labelled rows to be judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from adray.representation.encoders.base import EncoderInputs


@dataclass(frozen=True)
class PictureBatch:
    """n pictures from which views are made on the device.

    Attributes:
        pictures: uint8 `[n, 3, side, side]`, whole pictures brought to squares.
        sizes: int64 `[n, 2]`, height and width before.
        ids: int64 `[n]`, hashed creative ids.
        skus: int64 `[n]`, hashed SKU ids.
        epoch: 0-based pass over the data.
    """

    pictures: Tensor
    sizes: Tensor
    ids: Tensor
    skus: Tensor
    epoch: int

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Any) -> PictureBatch:
        """Copy to a device."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in ("pictures", "sizes", "ids", "skus")}
        return replace(self, **moved)


@dataclass(frozen=True)
class ViewBatch:
    """n creatives, two views each.

    Attributes:
        first: The first views.
        second: The second.
        ids: int64 `[n]`, hashed creative ids.
        skus: int64 `[n]`, hashed SKU ids.
        kinds: int64 `[n]`, index into `views.pairs.PAIR_KINDS` of how each pair was made.
    """

    first: EncoderInputs
    second: EncoderInputs
    ids: Tensor
    skus: Tensor
    kinds: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Any) -> ViewBatch:
        """Copy to a device."""
        return ViewBatch(self.first.to(device), self.second.to(device), self.ids.to(device), self.skus.to(device), self.kinds.to(device))


@dataclass(frozen=True)
class LabelledBatch:
    """n rows that judge a network: the bank of a kNN classifier, or its test.

    Attributes:
        inputs: What the encoder reads.
        labels: int64 `[n]`.
        part: Which of the two.
    """

    inputs: EncoderInputs
    labels: Tensor
    part: Literal["bank", "test"]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: Any) -> LabelledBatch:
        """Copy to a device."""
        return LabelledBatch(self.inputs.to(device), self.labels.to(device), self.part)
