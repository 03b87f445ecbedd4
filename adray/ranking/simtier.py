"""SimTier: how like a candidate is to what the user clicked, as a small histogram (Sheng et al., arXiv 2407.19467, section 4).

Cosines between the candidate's content vector and those of the clicked creatives are counted in N equal parts of [-1, 1]. A
vector of hundreds of numbers thus becomes N counts, which a ranker learns from at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adray.data.batch import Ragged
from adray.ranking.arrays import offsets_of
from adray.ranking.ragged import Lists, rows_of

_NUMBERS_AT_ONCE = 1 << 20
"""Gathered at a time: more no longer fits into a cache."""


@dataclass(frozen=True)
class ClickedCreatives:
    """What the users of n rows clicked before, as far as its content is known.

    Attributes:
        content: float32 `[V, content_dim]`, content vectors.
        lists: Rows of `content`, oldest first; n lists.
    """

    content: Tensor
    lists: Ragged

    def to(self, device: torch.device | str) -> ClickedCreatives:
        """Copy to a device."""
        return ClickedCreatives(self.content.to(device), self.lists.to(device))


def known_clicks(clicks: Ragged, max_length: int, lookup: Callable[[np.ndarray], np.ndarray], content: np.ndarray) -> ClickedCreatives:
    """Find the content of clicked creatives; those that are unknown or have no vector are skipped.

    Args:
        clicks: Hashed creative ids, oldest first; n lists.
        max_length: Only the latest this many of the known ones are kept.
        lookup: Maps int64 hashes to rows of `content`, -1 where unknown.
        content: `[C, content_dim]`, zeros where there is no vector.
    """
    rows = lookup(clicks.values.numpy())
    distinct, place = np.unique(rows[rows >= 0], return_inverse=True)
    vectors = np.asarray(content[distinct], dtype=np.float32)
    known = np.zeros(rows.size, dtype=bool)
    known[rows >= 0] = (np.count_nonzero(vectors, axis=1) > 0)[place.reshape(-1)]
    owner = clicks.segments().numpy()
    # How many known ones come after each in its list: those with fewer than `max_length` are the latest.
    total = np.bincount(owner[known], minlength=len(clicks))
    last = np.cumsum(total)[owner[known]]
    latest = last - 1 - np.arange(last.size) < max_length
    kept = np.searchsorted(distinct, rows[known][latest])
    offsets = offsets_of(np.minimum(total, max_length))
    return ClickedCreatives(torch.from_numpy(vectors), Ragged(torch.from_numpy(kept), torch.from_numpy(offsets)))


@torch.no_grad()
def similarity_tiers(content: Tensor, candidates: Ragged, clicked: ClickedCreatives, tiers: int) -> Tensor:
    """Histogram of each candidate's cosines with its user's clicked creatives.

    Args:
        content: `[U, content_dim]`, the creatives' content vectors; zeros where there is none.
        candidates: Each candidate's row in `content`; n lists with m items.
        clicked: What the users of these n lists clicked.
        tiers: N; tier t counts cosines in [2 t / N - 1, 2 (t + 1) / N - 1), the last one 1 as well.

    Returns:
        float32 `[m, N]`, counts that sum to the user's known clicks; zeros for a candidate without content.
    """
    ours, there = _padded(candidates)
    theirs, clicks = _padded(clicked.lists)
    # In double precision, so that a cosine near a tier's border falls on the same side in every batch that it is computed in.
    unit, unit_clicked = F.normalize(content.double(), dim=1), F.normalize(clicked.content.double(), dim=1)
    known = content.any(dim=1)
    counts = torch.zeros(int(there.sum()), tiers, dtype=torch.float32, device=content.device)
    step = max(1, _NUMBERS_AT_ONCE // max(1, (ours.shape[1] + theirs.shape[1]) * content.shape[1]))
    if theirs.shape[1] == 0:
        return counts
    start = 0
    for row in range(0, len(candidates), step):
        rows = slice(row, row + step)
        cosines = rows_of(unit, ours[rows]) @ rows_of(unit_clicked, theirs[rows]).transpose(1, 2)
        tier = cosines.add_(1).mul_(tiers / 2).long().clamp_(0, tiers - 1)
        counted = (clicks[rows].unsqueeze(1) & known[ours[rows]].unsqueeze(2)).float()
        found = torch.zeros(*tier.shape[:2], tiers, device=content.device).scatter_add_(2, tier, counted)[there[rows]]
        counts[start : start + len(found)] = found
        start += len(found)
    return counts


def _padded(lists: Ragged) -> tuple[Tensor, Tensor]:
    """Items `[n, longest]`, 0 where there is none, and where there is one (bool)."""
    shape = Lists.from_offsets(lists.offsets)
    longest = int(shape.lengths.max()) if len(lists) else 0
    there = torch.arange(longest, device=lists.offsets.device) < shape.lengths.unsqueeze(1)
    items = torch.zeros(there.shape, dtype=torch.int64, device=lists.offsets.device)
    items[there] = lists.values
    return items, there
