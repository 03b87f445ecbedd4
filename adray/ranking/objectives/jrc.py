"""JRC: joint optimisation of ranking and calibration with two logits per item (arXiv 2208.06164)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.ranking.objectives.pointwise import click_loss
from adray.ranking.ragged import at_least_float32, segment_logsumexp


def jrc_loss(logits: Tensor, clicked: Tensor, sessions: Tensor, alpha: float) -> Tensor:
    """`alpha * CE + (1 - alpha) * L_rank`, per item.

    With logits a ("no click") and b ("click"), CE is the two-class cross-entropy, i.e. the click loss of `b - a`. For a
    clicked item, `L_rank = -log(e^b / (e^b + sum of e^b' over the session's items without a click))`; for the others the
    same with a and the clicked items. Items of the same label do not compete.

    Args:
        logits: `[n, 2]`, columns (a, b).
        clicked: `[n]`, 0 or 1.
        sessions: int64 `[n]`, equal values make a session; any values.
        alpha: Share of the calibration term, in [0, 1].

    Returns:
        `[n]`, nats; `alpha * CE` for an item whose session holds no item of the other label.
    """
    logits = at_least_float32(logits)
    positive = clicked > 0.5
    names, session = torch.unique(sessions, return_inverse=True)
    # An item's competitors are the other label's items, compared in the item's own class logit.
    negative_b = torch.where(positive, -torch.inf, logits[:, 1])
    positive_a = torch.where(positive, logits[:, 0], -torch.inf)
    against_positive = segment_logsumexp(negative_b, session, names.numel())[session]
    against_negative = segment_logsumexp(positive_a, session, names.numel())[session]
    competitors = torch.where(positive, against_positive, against_negative)
    own = torch.where(positive, logits[:, 1], logits[:, 0])
    contested = torch.isfinite(competitors)
    rank = torch.where(contested, F.softplus(torch.where(contested, competitors, 0.0) - own), 0.0)
    return alpha * click_loss(logits[:, 1] - logits[:, 0], clicked) + (1 - alpha) * rank
