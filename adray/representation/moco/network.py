"""The query network: an encoder followed by its projector."""

from __future__ import annotations

from torch import Tensor, nn

from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.moco.config import MocoConfig
from adray.representation.moco.heads import projector


class QueryNetwork(nn.Module):
    """Encoder and projector; the key network has the same shape. The predictor belongs to the queries alone.

    Args:
        encoder: Gives pooled features.
        config: Widths of the head.
        layers: Linear layers of the projector.
    """

    def __init__(self, encoder: Encoder, config: MocoConfig, layers: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector(encoder.dim, config.hidden, config.out, layers, config.norm)

    def forward(self, inputs: EncoderInputs) -> Tensor:
        """float `[n, out]`, not normalised."""
        return self.projector(self.encoder.pooled(inputs))
