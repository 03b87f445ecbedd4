"""Arithmetic over ragged lists: items in one flat row, `segments[i]` naming the list of item i. No padding anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Lists:
    """The shape of n ragged lists with m items.

    Attributes:
        segments: int64 `[m]`, the list of each item.
        lengths: int64 `[n]`, items per list.
    """

    segments: Tensor
    lengths: Tensor

    @classmethod
    def from_offsets(cls, offsets: Tensor) -> Lists:
        """Lists whose items lie one after the other; `offsets` is int64 `[n + 1]`."""
        lengths = offsets.diff()
        return cls(torch.repeat_interleave(torch.arange(lengths.numel(), device=offsets.device), lengths), lengths)

    def __len__(self) -> int:
        return self.lengths.numel()

    @property
    def ordered(self) -> Tensor:
        """Which lists, bool `[n]`, have an order to learn: those of at least two items."""
        return self.lengths >= 2


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision widened to float32, the least that losses may be computed in."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def rows_of(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]` for `values [n, d]`; its backward is several times faster on CPU than that of plain indexing."""
    return F.embedding(index, values)


def segment_sum(values: Tensor, segments: Tensor, lists: int) -> Tensor:
    """Sum each list's items.

    Args:
        values: `[m]` or `[m, d]`.
        segments: int64 `[m]` in [0, lists), in any order.
        lists: Number of lists n.

    Returns:
        `[n]` or `[n, d]`; 0 for an empty list.
    """
    if values.dim() == 1:
        return values.new_zeros(lists).index_add(0, segments, values)
    width = values.shape[1]
    return values.new_zeros(lists, width).scatter_add(0, segments.unsqueeze(1).expand(-1, width), values)


def segment_mean(values: Tensor, segments: Tensor, lengths: Tensor) -> Tensor:
    """Average each list's items `[m, d]` into `[n, d]`; 0 for an empty list. `lengths` is int64 `[n]`."""
    return segment_sum(values, segments, lengths.numel()) / lengths.clamp(min=1).unsqueeze(1)


def segment_logsumexp(values: Tensor, segments: Tensor, lists: int) -> Tensor:
    """`log sum exp` over each list, stable for any finite values.

    Args:
        values: `[m]`; `-inf` marks an item that does not count.
        segments: int64 `[m]`.
        lists: Number of lists n.

    Returns:
        `[n]`; `-inf` for a list without a counting item.
    """
    values = at_least_float32(values)
    top = values.new_full((lists,), -torch.inf).scatter_reduce(0, segments, values.detach(), "amax")
    top = torch.where(torch.isfinite(top), top, 0.0)
    total = segment_sum((values - top[segments]).exp(), segments, lists)
    # log(0) has an infinite gradient that turns into NaN, so lists without an item never reach the logarithm.
    return torch.where(total > 0, torch.where(total > 0, total, 1.0).log() + top, -torch.inf)


def segment_log_softmax(values: Tensor, segments: Tensor, lists: int) -> Tensor:
    """`log softmax` within each list, `[m]`; every list must have a finite item."""
    return at_least_float32(values) - segment_logsumexp(values, segments, lists)[segments]


def segment_softmax(values: Tensor, segments: Tensor, lists: int) -> Tensor:
    """Softmax within each list, `[m]`."""
    return segment_log_softmax(values, segments, lists).exp()


def list_mean(losses: Tensor, counted: Tensor) -> Tensor:
    """Mean of the per-list losses `[n]` over the lists that are `counted` (bool `[n]`); 0 when none is."""
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)
