"""One denoising step: UNet and ControlNet, with and without the prompt (classifier-free guidance)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adray.generation.condition import Condition


def branches(
    unet: nn.Module, controlnet: nn.Module, latents: Tensor, timestep: Tensor | int, condition: Condition, control_scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """A network's output without and with the prompt, in one pass over both.

    Both branches see the edges, as in diffusers' pipeline without guess mode.

    Args:
        unet: The denoiser.
        controlnet: What steers it by the edges.
        latents: float `[n, c, h, w]`, already scaled for the scheduler.
        timestep: One for all rows.
        condition: Of the same n rows.
        control_scale: Weight of the ControlNet's residuals.

    Returns:
        Two float `[n, c, h, w]`: under the negative prompt, under the prompt.
    """
    text = torch.cat([condition.negative, condition.text])
    edges = torch.cat([condition.edges, condition.edges])
    known = None if condition.known is None else torch.cat([condition.known, condition.known])
    output = predict(unet, controlnet, torch.cat([latents, latents]), timestep, text, edges, known, control_scale)
    negative, positive = output.chunk(2)
    return negative, positive


def predict(
    unet: nn.Module,
    controlnet: nn.Module,
    latents: Tensor,
    timestep: Tensor | int,
    text: Tensor,
    edges: Tensor,
    known: Tensor | None = None,
    control_scale: float = 1.0,
) -> Tensor:
    """The UNet's output with the ControlNet's residuals added (Zhang et al. 2023).

    Args:
        unet: The denoiser.
        controlnet: What steers it.
        latents: float `[n, c, h, w]`.
        timestep: One for all rows, or int64 `[n]`.
        text: float `[n, length, width]`.
        edges: float `[n, 3, side, side]`.
        known: float `[n, 1 + c, h, w]` for inpainting UNets; the ControlNet does not read it.
        control_scale: Weight of the residuals.

    Returns:
        float `[n, c, h, w]`.
    """
    down, middle = controlnet(
        latents, timestep, encoder_hidden_states=text, controlnet_cond=edges, conditioning_scale=control_scale, return_dict=False
    )
    output: Any = unet(
        latents if known is None else torch.cat([latents, known], dim=1),
        timestep,
        encoder_hidden_states=text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        return_dict=False,
    )
    return output[0]


def guided(negative: Tensor, positive: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022): the step from the negative branch to the positive one, lengthened."""
    return negative + guidance * (positive - negative)
