"""Pointwise click likelihood of what was shown."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from adray.ranking.ragged import at_least_float32


def click_loss(logits: Tensor, clicked: Tensor) -> Tensor:
    """Binary cross-entropy of the click on the shown item: `-[y log s(z) + (1 - y) log(1 - s(z))]`.

    Args:
        logits: `[n]`, click logit of each list's exposed candidate.
        clicked: `[n]`, 0 or 1.

    Returns:
        `[n]`, nats.
    """
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, clicked.to(logits.dtype), reduction="none")
