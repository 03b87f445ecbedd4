"""An encoder whose weights stay as they are, refined by a small residual perceptron on its vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from adray.config import Config
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.dual_tower import DualTowerConfig, Residual
from adray.representation.encoders.mllm_config import MllmConfig
from adray.representation.encoders.resnet import ResnetConfig
from adray.representation.encoders.vit import VitConfig


class AdaptedConfig(Config):
    """Another encoder and a residual perceptron on its vector of length 1."""

    kind: Literal["adapted"] = "adapted"
    """A refined encoder."""
    base: Annotated[DualTowerConfig | MllmConfig | ResnetConfig | VitConfig, Field(discriminator="kind")]
    """The encoder that is refined."""
    hidden: int = Field(default=512, ge=1)
    """Width of the perceptron's hidden layer."""


class VectorAdapter(Encoder):
    """The residual perceptron alone: reads vectors that an encoder made before (`vectors`, float `[n, dim]`).

    Args:
        dim: Width of the vectors.
        hidden: Width of the hidden layer.
        input_dropout: Share of entries hidden while training.
    """

    def __init__(self, dim: int, hidden: int, input_dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self._dropout = dim, input_dropout
        self.residual = Residual(dim, hidden, dim)

    def prepare(self, creatives: Creatives) -> EncoderInputs:
        """Not possible: vectors come from another encoder."""
        raise NotImplementedError("an adapter reads vectors; prepare with the encoder that made them")

    def pooled(self, inputs: EncoderInputs) -> Tensor:
        """`x + f(x)` with x of length 1; f starts at zero, so that an untrained adapter changes nothing."""
        vectors = F.normalize(inputs.tensors["vectors"].float(), dim=1)
        seen = F.dropout(vectors, self._dropout, self.training)
        # The perceptron's input has length sqrt(dim), whatever the width: LayerNorm's usual scale.
        return seen + self.residual(seen * self.dim**0.5)

    def transform(self) -> Mapping[str, Any]:
        """Nothing but the normalisation."""
        return {"kind": "vectors", "normalised": True}


class Adapted(Encoder):
    """A frozen encoder followed by its adapter.

    Args:
        base: The encoder.
        hidden: Width of the adapter's hidden layer.
    """

    def __init__(self, base: Encoder, hidden: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dim = base.dim
        self.adapter = VectorAdapter(base.dim, hidden)

    def train(self, mode: bool = True) -> Adapted:
        """Training mode for the adapter alone."""
        super().train(mode)
        self.base.eval()
        return self

    def prepare(self, creatives: Creatives) -> EncoderInputs:
        """As the base prepares."""
        return self.base.prepare(creatives)

    def pooled(self, inputs: EncoderInputs) -> Tensor:
        """The adapter's vector, float32 `[n, dim]`."""
        with torch.no_grad():
            vectors = self.base.pooled(inputs)
        return self.adapter.pooled(EncoderInputs({"vectors": vectors}, inputs.rows))

    def transform(self) -> Mapping[str, Any]:
        """The base's."""
        return self.base.transform()

    def stored_tensors(self) -> Mapping[str, Tensor]:
        """What the base stores, and the adapter."""
        base = {f"base.{name}": tensor for name, tensor in self.base.stored_tensors().items()}
        return {**base, **{f"adapter.{name}": tensor for name, tensor in self.adapter.state_dict().items()}}

    def assets(self) -> Mapping[str, Any]:
        """The base's."""
        return self.base.assets()


def build_adapted(config: AdaptedConfig, assets: Mapping[str, Any] | None) -> Adapted:
    """Build base and adapter.

    Args:
        config: Its config.
        assets: The base's; None loads its pretrained weights.
    """
    from adray.representation.encoders.factory import build_from

    return Adapted(build_from(config.base, assets), config.hidden)
