"""Learning-rate schedules as a pure function of the step, so that resuming needs no state."""

from __future__ import annotations

import math

from adray.training.config import TrainingConfig


def warmup_steps(config: TrainingConfig, total_steps: int) -> int:
    """Steps of linear warm-up: `warmup` itself, or that share of all steps when it is below 1."""
    return round(config.warmup * total_steps) if config.warmup < 1 else min(int(config.warmup), total_steps)


def lr_factor(config: TrainingConfig, step: int, total_steps: int) -> float:
    """Learning rate of one step as a share of the peak.

    Warm-up: `(step + 1) / warmup`, so that the first step already learns. Afterwards, with p the share of the
    remaining steps done, cosine is `f + (1 - f) (1 + cos(pi p)) / 2` (SGDR, Loshchilov and Hutter 2017, eq. 5
    without restarts) and linear is `1 - (1 - f) p`, where f is `final_lr_share`.

    Args:
        config: Gives `warmup`, `schedule` and `final_lr_share`.
        step: 0-based optimizer step.
        total_steps: Optimizer steps of the whole run.
    """
    warmup = warmup_steps(config, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if config.schedule == "cosine":
        return config.final_lr_share + (1 - config.final_lr_share) * 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "linear":
        return 1 - (1 - config.final_lr_share) * progress
    return 1.0
