"""List-wise objectives: which candidate was shown, which one is clicked, and aggregated CTR (VAM)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.ranking.ragged import (
    Lists,
    at_least_float32,
    segment_log_softmax,
    segment_mean,
    segment_softmax,
    segment_sum,
)


def exposure_loss(exposure: Tensor, lists: Lists, exposed_rows: Tensor) -> Tensor:
    """`-log pi_e`, pi being the softmax of the exposure logits over the list: the likelihood of which creative was shown.

    With `click_loss` of the exposed candidate added it is form A, the joint likelihood of exposure and click. It learns
    the logging policy, so its logits are a propensity model and never a serving order.

    Args:
        exposure: `[m]`, exposure logits.
        lists: n lists over the m items.
        exposed_rows: int64 `[n]`, the flat row of each list's shown candidate.

    Returns:
        `[n]`, nats; exactly 0 for a list of one.
    """
    log_pi = segment_log_softmax(exposure, lists.segments, len(lists))[exposed_rows]
    return torch.where(lists.ordered, -log_pi, 0.0)


def click_list_loss(exposure: Tensor, click: Tensor, clicked: Tensor, lists: Lists, exposed_rows: Tensor) -> Tensor:
    """`-y log(pi_e s(z_e) / sum_k pi_k s(z_k))`, i.e. `-y log p(c = e | click)`: what form B adds to form A.

    Args:
        exposure: `[m]`, exposure logits u; `pi = softmax(u)` within the list.
        click: `[m]`, click logits z.
        clicked: `[n]`, 0 or 1.
        lists: n lists over the m items.
        exposed_rows: int64 `[n]`, the flat row of each list's shown candidate.

    Returns:
        `[n]`, nats; 0 for a list of one or without a click.
    """
    # The softmax's normaliser cancels in the ratio, so raw exposure logits serve as log pi.
    log_joint = at_least_float32(exposure) + F.logsigmoid(at_least_float32(click))
    log_share = segment_log_softmax(log_joint, lists.segments, len(lists))[exposed_rows]
    return torch.where(lists.ordered, -clicked.to(log_share.dtype) * log_share, 0.0)


def smoothed_ctr(impressions: Tensor, clicks: Tensor, alpha: float, beta: float) -> Tensor:
    """`(k + alpha) / (n + alpha + beta)`, elementwise: the posterior mean under a Beta(alpha, beta) prior."""
    return (clicks + alpha) / (impressions + alpha + beta)


def vam_list_loss(scores: Tensor, ctr: Tensor, lists: Lists, temperature: float) -> Tensor:
    """VAM's list-wise term (WWW 2021): cross-entropy from `softmax(T * ctr)` to `softmax(scores)` within the list.

    Args:
        scores: `[m]`.
        ctr: `[m]`, smoothed CTR of each candidate.
        lists: n lists over the m items.
        temperature: T; 1000 in the paper, i.e. sharp targets.

    Returns:
        `[n]`, nats; 0 for a list of one.
    """
    target = segment_softmax(temperature * ctr, lists.segments, len(lists))
    log_share = segment_log_softmax(scores, lists.segments, len(lists))
    return torch.where(lists.ordered, segment_sum(-target * log_share, lists.segments, len(lists)), 0.0)


def vam_point_loss(scores: Tensor, ctr: Tensor, lists: Lists) -> Tensor:
    """VAM's pointwise term: the list's mean of `(score - 100 * ctr)^2`; `[n]`."""
    squares = (at_least_float32(scores) - 100.0 * ctr).square()
    return segment_mean(squares.unsqueeze(1), lists.segments, lists.lengths).squeeze(1)


def exposure_probability(exposure: Tensor, lists: Lists) -> Tensor:
    """The modelled propensity of each candidate, `[m]`: the softmax of its exposure logit within its list."""
    return segment_softmax(exposure, lists.segments, len(lists))
