"""Building blocks of both halves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def relu_mlp(width: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear and ReLU layers `width -> hidden[0] -> ... -> hidden[-1]`, each with dropout when asked for."""
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Linear(width, out), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = out
    return nn.Sequential(*layers)


class CrossLayer(nn.Module):
    """A DCN-V2 cross layer (WWW 2021, eq. 1): `x0 * (W x + b) + x`, elementwise product; W may be of low rank.

    Args:
        width: Width of the input.
        rank: Rank of W; None is full.
    """

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        self.weight: nn.Module
        if rank is None:
            self.weight = nn.Linear(width, width)
        else:
            self.weight = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def forward(self, start: Tensor, value: Tensor) -> Tensor:
        """One crossing of `value` with the network's input `start`, both `[n, width]`."""
        return torch.addcmul(value, start, self.weight(value))


class AttentionBlock(nn.Module):
    """A pre-norm Transformer block whose queries may be fewer than its keys.

    Args:
        width: Model width.
        heads: Attention heads; must divide the width.
        hidden: Width of the feed-forward part.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.norm_forward = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor, mask: Tensor, queries: int | None = None) -> Tensor:
        """Attend and transform.

        Args:
            tokens: `[n, t, width]`.
            mask: bool `[n, 1, 1, t]`, True for tokens that exist.
            queries: Only the last this many tokens ask and are returned; None is all.
        """
        asking = tokens if queries is None else tokens[:, -queries:]
        normed = self.norm_attention(tokens)
        query = self.query(normed if queries is None else normed[:, -queries:])
        key, value = self.key_value(normed).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(self._split(query), self._split(key), self._split(value), attn_mask=mask)
        asking = asking + self.out(mixed.transpose(1, 2).flatten(2))
        return asking + self.feed_forward(self.norm_forward(asking))

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)
