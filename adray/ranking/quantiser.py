"""The ad score as a code: log-scale quantisation with a straight-through gradient (Peri-CR / JAC, AAAI 2024)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.ranking.config import AdScoreConfig


def log_position(probability: Tensor, codes: int, r: float) -> Tensor:
    """Where a probability lies on the code axis: `K * log_{r+1}(1 + r p)`, float, in [0, K] for p in [0, 1].

    Args:
        probability: Any shape, float32 or float64, in [0, 1].
        codes: Number of codes K.
        r: Log scale; larger values spend more codes on small probabilities.
    """
    return codes * torch.log1p(r * probability) / math.log1p(r)


def quantise(probability: Tensor, codes: int, r: float) -> Tensor:
    """The code `clamp(floor(K * log_{r+1}(1 + r p)), 0, K - 1)`, int64, of the probability's shape."""
    return log_position(probability.detach(), codes, r).floor().long().clamp(0, codes - 1)


class AdScoreEmbedding(nn.Module):
    """Embeds a quantised probability and says how the gradient comes back to it.

    Modes, `e` being the embedding and `p` the probability:
    `sum`: `e = E[code] + (p - stop_gradient(p)) * 1`, hence `dL/dp = sum_d dL/de_d`;
    `interp`: `e` interpolates between the rows around p's position, a true local gradient;
    `stop`: no gradient.

    Args:
        config: Codes, width, log scale and mode.
    """

    def __init__(self, config: AdScoreConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(_smooth_curve(config.codes, config.dim))

    def forward(self, probability: Tensor) -> Tensor:
        """Embed `[n]` probabilities (float32) into `[n, dim]`."""
        config = self.config
        if config.mode == "interp":
            return self._interpolate(probability)
        embedded = F.embedding(quantise(probability, config.codes, config.r), self.weight)
        if config.mode == "sum":
            embedded = embedded + (probability - probability.detach()).unsqueeze(-1).to(embedded.dtype)
        return embedded

    def _interpolate(self, probability: Tensor) -> Tensor:
        position = log_position(probability, self.config.codes, self.config.r)
        low = position.detach().floor().long().clamp(0, self.config.codes - 1)
        high = (low + 1).clamp(max=self.config.codes - 1)
        share = (position - low).clamp(max=1.0).unsqueeze(-1).to(self.weight.dtype)
        return (1 - share) * F.embedding(low, self.weight) + share * F.embedding(high, self.weight)


def _smooth_curve(codes: int, dim: int, knots: int = 33) -> Tensor:
    # Most of the codes are rare. Rows start on a smooth random curve, so a code that training never meets
    # still resembles its neighbours instead of being noise.
    anchors = torch.randn(1, dim, min(knots, codes)) * 0.1
    return F.interpolate(anchors, size=codes, mode="linear", align_corners=True)[0].t().contiguous()
