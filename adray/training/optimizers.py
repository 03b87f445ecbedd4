"""Torch optimizers from the training config, with torch's fused kernels."""

from __future__ import annotations

from typing import Any

import torch

from adray.errors import ConfigError
from adray.training.config import TrainingConfig
from adray.training.lars import Lars


def build_optimizer(groups: list[dict[str, Any]], config: TrainingConfig, device: torch.device) -> torch.optim.Optimizer:
    """Build the optimizer over a module's parameter groups.

    DeepSpeed's own fused optimizers are compiled on first use; torch's come ready and run on CPU and GPU.

    Args:
        groups: As from `TrainModule.parameter_groups`; empty groups are dropped.
        config: Gives the algorithm and its defaults; a group's own `lr` and `weight_decay` win.
        device: Where the parameters live; Adagrad's fused kernel exists on the CPU only.

    Raises:
        ConfigError: If there is nothing to train.
    """
    groups = [{**group, "params": list(group["params"])} for group in groups]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ConfigError("the module has no trainable parameters", "unfreeze something, or only evaluate it")
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, lr=config.lr, weight_decay=config.weight_decay, fused=device.type == "cpu")
    if config.optimizer == "lars":
        return Lars(groups, lr=config.lr, momentum=config.betas[0], weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.betas[0], weight_decay=config.weight_decay, fused=True)
