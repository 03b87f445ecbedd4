"""Sampling: from noise and conditions to pictures with the product in them, pixel for pixel.

The loop does what diffusers' `StableDiffusionControlNetInpaintPipeline` does with a 4-channel UNet, for any number of latent
channels, and can be stopped before any step, which feedback fine-tuning needs.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from adray.config import Config
from adray.generation.components import Components
from adray.generation.condition import Condition, MaskCells, decode_latents, make_condition
from adray.generation.conditioning import paste
from adray.generation.denoiser import branches, guided, predict
from adray.generation.schedule import SchedulerName, make_scheduler


class SamplingConfig(Config):
    """How pictures are sampled; the defaults are the published ones."""

    scheduler: SchedulerName = "ddim"
    """The sampler: DDIM, Euler ancestral, or DPM++ 2M SDE with Karras' noise levels."""
    steps: int = Field(default=40, ge=1)
    """Denoising steps."""
    guidance: float = Field(default=7.5, ge=1.0)
    """Scale of classifier-free guidance; 1 is none."""
    control_scale: float = Field(default=1.0, ge=0.0)
    """Weight of the ControlNet."""
    eta: float = Field(default=0.0, ge=0.0, le=1.0)
    """`ddim` only: share of fresh noise in each step."""
    mask_cells: MaskCells = "nearest"
    """Which latent cells may be repainted: `nearest` as published; `any` for grids whose cells are large beside the product."""


def draw_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Standard normal float32 `[n, *shape]`; row k depends on seed k alone, on every device and in every batch."""
    return torch.stack([torch.randn(tuple(shape), generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])


@torch.no_grad()
def denoise(
    unet: nn.Module,
    controlnet: nn.Module,
    scheduler: Any,
    condition: Condition,
    noise: Tensor,
    sampling: SamplingConfig,
    stop: int | None = None,
    generators: list[torch.Generator] | None = None,
) -> Tensor:
    """Run the sampler from noise, without gradient.

    Args:
        unet: The denoiser.
        controlnet: What steers it.
        scheduler: From `make_scheduler`, unused so far.
        condition: Of n pictures.
        noise: float `[n, c, h, w]`.
        sampling: Guidance and weights.
        stop: Steps to take; None takes all.
        generators: One per picture, for samplers that draw fresh noise.

    Returns:
        float `[n, c, h, w]`: x_t before step `stop`, or the clean latents.
    """
    timesteps = scheduler.timesteps
    latents = noise * scheduler.init_noise_sigma
    options: dict[str, Any] = {}
    takes = inspect.signature(scheduler.step).parameters
    if "eta" in takes:
        options["eta"] = sampling.eta
    if "generator" in takes and generators is not None:
        options["generator"] = generators
    for index, timestep in enumerate(timesteps[:stop]):
        scaled = scheduler.scale_model_input(latents, timestep)
        if sampling.guidance == 1.0:
            output = predict(unet, controlnet, scaled, timestep, condition.text, condition.edges, condition.known, sampling.control_scale)
        else:
            output = guided(*branches(unet, controlnet, scaled, timestep, condition, sampling.control_scale), sampling.guidance)
        latents = scheduler.step(output, timestep, latents, return_dict=False, **options)[0]
        known = condition.product
        if index + 1 < len(timesteps):
            known = scheduler.add_noise(known, noise, timesteps[index + 1 : index + 2])
        latents = (1.0 - condition.repaint) * known + condition.repaint * latents
    return latents


class PictureMaker:
    """Makes pictures of products; a picture depends on its own cut-out, prompts and seed, not on the batch it is made in.

    Args:
        components: The generator.
        sampling: How it samples.
        device: Torch device.
        precision: `fp32` or `bf16` (autocast).
    """

    def __init__(self, components: Components, sampling: SamplingConfig, device: str = "cpu", precision: str = "fp32") -> None:
        self._components, self._sampling, self._device, self._precision = components, sampling, torch.device(device), precision
        make_scheduler(components.scheduler, sampling.scheduler, sampling.steps)
        components.to(device)
        for part in components.networks():
            part.eval().requires_grad_(False)

    def __call__(self, cutouts: np.ndarray, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Make n pictures.

        Args:
            cutouts: uint8 `[n, side, side, 4]`, each product at its place.
            prompts: n texts.
            negatives: n texts.
            seeds: n seeds of the noise.

        Returns:
            uint8 `[n, side, side, 3]`; where a cut-out's alpha is 255, its very pixels.
        """
        parts, sampling = self._components, self._sampling
        with torch.no_grad(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            condition = make_condition(parts, cutouts, prompts, negatives, sampling.mask_cells)
            noise = draw_noise(condition.product.shape[1:], seeds).to(condition.product)
            scheduler = make_scheduler(parts.scheduler, sampling.scheduler, sampling.steps)
            # The first draw of a seed is its noise; a picture's further draws come from a stream of its own.
            fresh = [torch.Generator().manual_seed(int(seed) ^ 0x5DEECE66D) for seed in seeds]
            latents = denoise(parts.unet, parts.controlnet, scheduler, condition, noise, sampling, generators=fresh)
            pictures = decode_latents(parts, latents).float()
        return paste(pictures.permute(0, 2, 3, 1).cpu().numpy(), cutouts)
