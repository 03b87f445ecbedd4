"""The losses of feedback fine-tuning: the reward's, and what keeps the ControlNet near its frozen teacher."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.feedback.metrics import AVAILABLE
from adray.generation.schedule import noise_gap, signal_and_noise

_REFL_MARGIN, _REFL_SCALE = 2.0, 1e-3


def available_loss(logits: Tensor) -> Tensor:
    """F_AC: cross-entropy to the label `available`, mean over rows (Du et al. 2024, section 4.2).

    Args:
        logits: float `[n, 5]` of `LABELS`.
    """
    target = torch.full((len(logits),), AVAILABLE, dtype=torch.int64, device=logits.device)
    return F.cross_entropy(logits, target)


def refl_loss(logits: Tensor) -> Tensor:
    """ReFL's hinge max(0, 2 - r), scaled by 1e-3 (Xu et al. 2023), with r the log-odds of `available`.

    The published reward is ImageReward's score; taking the inspector's log-odds in its place is ours.

    Args:
        logits: float `[n, 5]` of `LABELS`.
    """
    others = torch.cat([logits[:, :AVAILABLE], logits[:, AVAILABLE + 1 :]], dim=1)
    reward = logits[:, AVAILABLE] - others.logsumexp(dim=1)
    return _REFL_SCALE * F.relu(_REFL_MARGIN - reward).mean()


def consistent_condition(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    scheduler: Any,
    timestep: Tensor | int,
    form: Literal["difference", "score"] = "difference",
) -> Tensor:
    """L_CC: the direction that the text gives stays the teacher's (Du et al. 2024, section 4.3).

    A change that both branches share costs nothing, which is what tells it from `teacher_distance`.

    Args:
        student: Outputs float `[n, c, h, w]` under the negative prompt and under the prompt, with gradient.
        teacher: Likewise, of the frozen copy at the same x_t.
        scheduler: Turns outputs into noise.
        timestep: Of x_t.
        form: `difference`: squares of the difference of noise, their mean over elements (the authors' practical form). `score`: the
            2-norm over each picture of the difference of -(noise) / sqrt(1 - abar_t), mean over pictures (the paper's formula).
    """
    difference = noise_gap(scheduler, (student[1] - student[0]) - (teacher[1] - teacher[0]), timestep)
    if form == "difference":
        return difference.square().mean()
    _, noise = signal_and_noise(scheduler, timestep, difference)
    return torch.linalg.vector_norm((difference / noise).flatten(1), dim=1).mean()


def teacher_distance(student: Tensor, teacher: Tensor, scheduler: Any, timestep: Tensor | int) -> Tensor:
    """Squared distance of predicted noise, mean over elements: stands for the KL divergence to the reference model.

    For two Gaussian steps of equal variance the divergence is proportional to it; the paper's own term is not known.

    Args:
        student: float `[n, c, h, w]`, with gradient.
        teacher: float `[n, c, h, w]`.
        scheduler: Turns outputs into noise.
        timestep: Of x_t.
    """
    return noise_gap(scheduler, student - teacher, timestep).square().mean()
