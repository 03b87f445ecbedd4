"""CLID: list-wise distillation that does not fight calibration (arXiv 2312.08727)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.ranking.ragged import Lists, at_least_float32, segment_log_softmax, segment_sum


def clid_loss(student: Tensor, teacher: Tensor, lists: Lists) -> Tensor:
    """`-sum_i q_i^T log q_i^S` with `q_i = s(z_i) / sum_j s(z_j)`, over all candidates of a list.

    Probabilities, not logits, are normalised, so any student proportional to the teacher is optimal and the absolute
    scale stays free for the click loss. No gradient reaches the teacher.

    Args:
        student: `[m]`, click logits.
        teacher: `[m]`, click logits.
        lists: n lists over the m items.

    Returns:
        `[n]`, nats; 0 for a list of one.
    """
    log_student = segment_log_softmax(F.logsigmoid(at_least_float32(student)), lists.segments, len(lists))
    log_teacher = segment_log_softmax(F.logsigmoid(at_least_float32(teacher.detach())), lists.segments, len(lists))
    return torch.where(lists.ordered, segment_sum(-log_teacher.exp() * log_student, lists.segments, len(lists)), 0.0)
