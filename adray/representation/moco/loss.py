"""MoCo v3's objective (Chen, Xie and He 2021, algorithm 1): symmetric, no queue, keys of all ranks as negatives."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def world() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) when there is no group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gathered(rows: Tensor) -> Tensor:
    """All ranks' rows in rank order, without gradient; every rank must bring as many.

    Args:
        rows: `[n, ...]`.

    Returns:
        `[n * world, ...]`.
    """
    _, size = world()
    rows = rows.detach().contiguous()
    if size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(size)]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


def contrast(queries: Tensor, keys: Tensor, temperature: float, blocked: Tensor | None = None) -> Tensor:
    """Each local query's loss against every rank's keys: `-2 tau log softmax(q . k / tau)` at its own key.

    The factor 2 tau keeps the gradient's scale about constant in tau; published learning rates count on it.

    Args:
        queries: float `[n, d]`, of length 1.
        keys: float `[n * world, d]`, of length 1, all ranks' in rank order, without gradient.
        temperature: tau.
        blocked: bool `[n, n * world]`, negatives to leave out; a query's own key always stays.

    Returns:
        float32 `[n]`.
    """
    rank, _ = world()
    logits = queries.float() @ keys.float().T / temperature
    own = torch.arange(len(queries), device=queries.device) + len(queries) * rank
    if blocked is not None:
        logits = logits.masked_fill(blocked.scatter(1, own[:, None], False), -math.inf)
    return 2 * temperature * F.cross_entropy(logits, own, reduction="none")


def chance_loss(temperature: float, batch: int) -> float:
    """The whole loss when all vectors are equal: both directions at `2 tau ln N`."""
    return 4 * temperature * math.log(batch)


def floor_loss(temperature: float, batch: int) -> float:
    """The whole loss when each query meets its key exactly and all others at a right angle: `4 tau ln(1 + (N - 1) e^(-1 / tau))`."""
    return 4 * temperature * math.log1p((batch - 1) * math.exp(-1 / temperature))
