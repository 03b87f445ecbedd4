"""The one interface of all encoders."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.representation.creatives import Creatives


@dataclass(frozen=True)
class EncoderInputs:
    """n creatives as tensors, made on the CPU by `Encoder.prepare`.

    Attributes:
        tensors: What the encoder's `forward` reads, by name.
        rows: n; it cannot be read off the tensors, since models lay out several pictures' patches one after another.
    """

    tensors: Mapping[str, Tensor]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def to(self, device: Any) -> EncoderInputs:
        """Copy to a device."""
        return EncoderInputs({name: value.to(device, non_blocking=True) for name, value in self.tensors.items()}, self.rows)


class Encoder(nn.Module):
    """Reads a picture, a copy or both into one vector. Plain single-device PyTorch.

    Attributes:
        dim: Width of the full vector.
    """

    dim: int

    @abstractmethod
    def prepare(self, creatives: Creatives) -> EncoderInputs:
        """Resize, normalise and tokenise on the CPU; needs no weights, so reading processes may call it.

        A missing picture or an empty copy is legal for an encoder that reads the other one.
        """

    @abstractmethod
    def pooled(self, inputs: EncoderInputs) -> Tensor:
        """The backbone's float `[n, dim]`, not normalised: what heads and adapters read."""

    def forward(self, inputs: EncoderInputs) -> Tensor:
        """The creatives' vectors, float32 `[n, dim]` of length 1."""
        return F.normalize(self.pooled(inputs).float(), dim=1)

    @abstractmethod
    def transform(self) -> Mapping[str, Any]:
        """Everything that shapes `prepare` as JSON values: picture size, mean, crop, prompt, longest text."""

    def stored_tensors(self) -> Mapping[str, Tensor]:
        """Parts of the state dict that the encoder's artifact holds; what is left out comes back with `assets`."""
        return self.state_dict()

    def assets(self) -> Mapping[str, Any]:
        """What rebuilding needs beside config and tensors, as JSON values: a tokenizer, hashes of weights left where they are."""
        return {}

    def transform_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of `transform`: a part of every vector's provenance."""
        return hashlib.sha256(json.dumps(self.transform(), sort_keys=True).encode()).hexdigest()[:16]


def truncated(vectors: Tensor, dim: int) -> Tensor:
    """Matryoshka: the first `dim` columns of `[n, d]`, brought back to length 1 (Kusupati et al. 2022).

    Raises:
        ValueError: If `dim` is not in 1..d.
    """
    if not 1 <= dim <= vectors.shape[1]:
        raise ValueError(f"dim is {dim}; choose 1..{vectors.shape[1]}")
    return F.normalize(torch.narrow(vectors, 1, 0, dim), dim=1)
