"""What the shown creative adds to the ad's chance of a click, as the light half sees it: the heavy half's labels made cleaner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.ranking.ragged import Lists, at_least_float32, segment_logsumexp


def shown_offset(log_policy: Tensor, click: Tensor, lists: Lists, exposed_rows: Tensor) -> Tensor:
    """`z_e - logit(sum_k pi_k s(z_k))`: the shown creative's click logit over that of the policy's average choice.

    Added to the ad's logit in its click loss, it takes out of the label what the creative explains, and nothing else: where
    the ad's logit is that of `sum_k pi_k s(z_k)`, the sum is exactly `z_e`, so the ad's logit keeps its meaning, the chance of a
    click before the creative is known. (A mean of logits instead of the logit of the mean would shift every ad by the spread
    of its creatives.) No gradient passes.

    Args:
        log_policy: `[m]`, log of the logging policy, up to a constant per list.
        click: `[m]`, click logits z.
        lists: n lists over the m items.
        exposed_rows: int64 `[n]`, the flat row of each list's shown candidate.

    Returns:
        `[n]`, logits; 0 for a list of one.
    """
    policy, z = at_least_float32(log_policy.detach()), at_least_float32(click.detach())
    # The policy's normaliser is in both terms of the log odds and cancels.
    clicked = segment_logsumexp(policy + F.logsigmoid(z), lists.segments, len(lists))
    not_clicked = segment_logsumexp(policy + F.logsigmoid(-z), lists.segments, len(lists))
    return torch.where(lists.ordered, z[exposed_rows] - (clicked - not_clicked), 0.0)
