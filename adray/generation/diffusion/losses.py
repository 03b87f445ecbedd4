"""The denoising objective and its weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from adray.config import Config
from adray.generation.schedule import signal_and_noise


class ObjectiveConfig(Config):
    """How errors are weighed."""

    snr_clip: float | None = Field(default=4.0, gt=0)
    """The squared error of the clean picture weighs `floor + min(SNR, snr_clip)` (after Hang et al. 2023, min-SNR). Unset: the squared
    error of whatever the UNet predicts weighs 1 at every timestep, as usual for `epsilon`."""
    floor: float = Field(default=1.0, ge=0.0)
    """Least weight of a clean picture's error, so that the noisiest timesteps, which decide the scene, count too."""
    product_weight: float = Field(default=1.0, ge=0.0, le=1.0)
    """Weight of the cells that the product covers: what is generated there is pasted over in the end."""


def loss_weights(scheduler: Any, timesteps: Tensor, config: ObjectiveConfig) -> Tensor:
    """Weight of the squared error of the network's own output at each timestep.

    With x_t = s x_0 + n e, an error d of the clean picture is an error d s / n of the noise and d / n of the velocity; so equal
    weights of the clean picture's error are divided by SNR = s^2 / n^2 for `epsilon` and by SNR + 1 for `v_prediction`.

    Args:
        scheduler: Names prediction type and noise levels.
        timesteps: int64 `[n]`.
        config: The objective.

    Returns:
        float32 `[n]`.
    """
    if config.snr_clip is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    signal, noise = signal_and_noise(scheduler, timesteps, torch.zeros(len(timesteps), 1, 1, 1, device=timesteps.device))
    snr = (signal / noise.clamp(min=1e-6)).square().flatten()
    weights = config.floor + snr.clamp(max=config.snr_clip)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return weights / snr.clamp(min=1e-6)
    return weights / (snr + 1.0) if kind == "v_prediction" else weights


def target_of(scheduler: Any, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the network is to predict, float `[n, c, h, w]`.

    Args:
        scheduler: Names the prediction type.
        clean: float `[n, c, h, w]`, x_0.
        noise: float `[n, c, h, w]`.
        timesteps: int64 `[n]`.
    """
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return clean
    if kind == "epsilon":
        return noise
    signal, spread = signal_and_noise(scheduler, timesteps, clean)
    return signal * noise - spread * clean


def cell_weights(alpha: Tensor, cell: int, product_weight: float) -> Tensor:
    """Weights of latent cells: 1 on background, `product_weight` on product, in between at its edge.

    Args:
        alpha: float `[n, side, side]` in [0, 1].
        cell: Pixels per cell.
        product_weight: Weight of a cell that the product fills.

    Returns:
        float `[n, 1, side / cell, side / cell]`.
    """
    covered = F.avg_pool2d(alpha[:, None], cell)
    return 1.0 - (1.0 - product_weight) * covered


def denoising_loss(output: Tensor, target: Tensor, weights: Tensor, cells: Tensor) -> Tensor:
    """Weighted squared error of each picture, mean over channels and cells: float `[n]`.

    Args:
        output: float `[n, c, h, w]`.
        target: float `[n, c, h, w]`.
        weights: float `[n]`, of the timesteps.
        cells: float `[n, 1, h, w]`.
    """
    return weights * (cells * (output - target).square()).mean(dim=(1, 2, 3))
