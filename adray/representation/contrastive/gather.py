"""Rows of all ranks beside each other, with exact gradients.

Every rank scores its own rows against all ranks' columns and the columns' gradients flow back to the rank that they came
from. With gradients averaged over ranks, as data-parallel training does, that equals one process with the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """How the batch's rows are spread.

    Attributes:
        counts: Rows on each rank.
        rank: This one.
    """

    counts: tuple[int, ...]
    rank: int

    @property
    def total(self) -> int:
        """Rows of all ranks."""
        return sum(self.counts)

    @property
    def offset(self) -> int:
        """Where this rank's rows begin among all."""
        return sum(self.counts[: self.rank])


def ranks_of(rows: int, device: torch.device) -> Ranks:
    """Tell every rank how many rows the others have; all ranks call it together.

    Args:
        rows: Rows on this rank; they may differ, as in an epoch's last step.
        device: Where collectives work.
    """
    if not _many():
        return Ranks((rows,), 0)
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([rows], dtype=torch.int64, device=device))
    return Ranks(tuple(int(count) for count in counts), dist.get_rank())


def gather_rows(values: Tensor, ranks: Ranks) -> Tensor:
    """All ranks' rows in rank order; all ranks call it together, and together call backward.

    Args:
        values: `[n, ...]`, n as `ranks` says; n times k rows gather groups of k.
        ranks: From `ranks_of`.

    Returns:
        `[total, ...]`. The gradient that reaches `values` is the sum over all ranks' losses.
    """
    if len(ranks.counts) == 1:
        return values
    group = len(values) // max(ranks.counts[ranks.rank], 1)
    longest = max(ranks.counts) * group
    padding = values.new_zeros(longest - len(values), *values.shape[1:])
    gathered = _Gather.apply(torch.cat([values, padding]) if len(padding) else values)
    if all(count * group == longest for count in ranks.counts):
        return gathered
    return torch.cat([gathered[rank * longest : rank * longest + count * group] for rank, count in enumerate(ranks.counts)])


class _Gather(torch.autograd.Function):
    """All-gather whose backward sums each rank's share over all ranks (a reduce-scatter)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: D102
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: D102
        # gloo has no reduce-scatter; the vectors are small beside the encoder's work.
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()].contiguous()


def _many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
