"""Likelihoods of lists whose candidates carry impression and click counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.ranking.ragged import Lists, at_least_float32, segment_log_softmax, segment_sum


def multinomial_loss(scores: Tensor, impressions: Tensor, clicks: Tensor, lists: Lists) -> Tensor:
    """`-sum_i k_i log p_i` with `p_i` proportional to `n_i exp(s_i)`: how a list's clicks fall on its candidates.

    The list's own click level cancels, so only the order within the list is learned.

    Args:
        scores: `[m]`, log relative click rates.
        impressions: `[m]`, n; a candidate with none takes no part.
        clicks: `[m]`, k.
        lists: n lists over the m items.

    Returns:
        `[n]`, nats summed over the list's clicks; 0 for a list of one.
    """
    scores = at_least_float32(scores)
    counted = impressions > 0
    safe = torch.where(counted, impressions, 1.0).to(scores.dtype)
    log_weight = torch.where(counted, scores + safe.log(), -torch.inf)
    empty = segment_sum(counted.long(), lists.segments, len(lists)) == 0
    log_weight = torch.where(empty[lists.segments], 0.0, log_weight)
    log_share = segment_log_softmax(log_weight, lists.segments, len(lists))
    # 0 * -inf is NaN, so candidates without impressions are taken out before the product, not after.
    terms = torch.where(counted, -clicks.to(scores.dtype) * torch.where(counted, log_share, 0.0), 0.0)
    return torch.where(lists.ordered, segment_sum(terms, lists.segments, len(lists)), 0.0)


def binomial_loss(logits: Tensor, impressions: Tensor, clicks: Tensor, lists: Lists) -> Tensor:
    """`-sum_i [k_i log s(z_i) + (n_i - k_i) log(1 - s(z_i))]`, `[n]`: every impression's click loss, summed over the list."""
    logits = at_least_float32(logits)
    clicks, impressions = clicks.to(logits.dtype), impressions.to(logits.dtype)
    terms = -clicks * F.logsigmoid(logits) - (impressions - clicks) * F.logsigmoid(-logits)
    return segment_sum(terms, lists.segments, len(lists))
