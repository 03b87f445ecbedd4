"""Noise schedules of diffusers, and what a network's output says about the clean picture and the noise."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from adray.errors import ConfigError

SchedulerName = Literal["ddim", "euler_a", "dpmpp_2m_sde"]


def make_scheduler(base: Any, name: SchedulerName, steps: int) -> Any:
    """A sampler over the noise schedule of a trained model, ready for `steps` steps.

    Args:
        base: The scheduler that the model was saved with; its betas and prediction type are kept.
        name: `ddim` (the published choice), `euler_a`, or `dpmpp_2m_sde` with Karras' noise levels.
        steps: Denoising steps.

    Returns:
        A fresh diffusers scheduler; they hold state, so every run of the sampler makes its own.

    Raises:
        ConfigError: If the sampler cannot work with the model's prediction type.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler

    config = dict(base.config)
    if name == "euler_a" and config.get("prediction_type") == "sample":
        raise ConfigError("sampling.scheduler 'euler_a' cannot sample a model that predicts the clean picture", "use ddim or dpmpp_2m_sde")
    if name == "ddim":
        made: Any = DDIMScheduler.from_config(config)
    elif name == "euler_a":
        made = EulerAncestralDiscreteScheduler.from_config(config)
    else:
        made = DPMSolverMultistepScheduler.from_config(config, algorithm_type="sde-dpmsolver++", use_karras_sigmas=True)
    made.set_timesteps(steps)
    return made


def signal_and_noise(scheduler: Any, timestep: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t), shaped to multiply `like`, float `[n, c, h, w]`.

    Args:
        scheduler: Holds `alphas_cumprod`.
        timestep: One for all rows, or int64 `[n]`.
        like: Gives dtype, device and rank.
    """
    at = torch.as_tensor(timestep, device=scheduler.alphas_cumprod.device).reshape(-1)
    kept = scheduler.alphas_cumprod[at].to(like.device, like.dtype).view(-1, 1, 1, 1)
    return kept.sqrt(), (1.0 - kept).sqrt()


def clean_prediction(scheduler: Any, output: Tensor, timestep: Tensor | int, latents: Tensor) -> Tensor:
    """The clean latents that a network's output stands for (Song et al. 2021, DDIM, equation 12, for `epsilon`).

    Args:
        scheduler: Names the prediction type.
        output: float `[n, c, h, w]`, the network's output.
        timestep: At which it was computed.
        latents: float `[n, c, h, w]`, its input x_t.

    Raises:
        ConfigError: If the prediction type is unknown.
    """
    signal, noise = signal_and_noise(scheduler, timestep, latents)
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return output
    if kind == "epsilon":
        return (latents - noise * output) / signal
    if kind == "v_prediction":
        return signal * latents - noise * output
    raise ConfigError(f"the generator's scheduler has prediction_type {kind!r}", "known: epsilon, sample, v_prediction")


def noise_gap(scheduler: Any, difference: Tensor, timestep: Tensor | int) -> Tensor:
    """What a difference of two outputs at the same x_t is as a difference of predicted noise.

    Args:
        scheduler: Names the prediction type.
        difference: float `[n, c, h, w]`, one output minus the other.
        timestep: At which both were computed.

    Raises:
        ConfigError: If the prediction type is unknown.
    """
    signal, noise = signal_and_noise(scheduler, timestep, difference)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return difference
    if kind == "sample":
        return -signal / noise * difference
    if kind == "v_prediction":
        return signal * difference
    raise ConfigError(f"the generator's scheduler has prediction_type {kind!r}", "known: epsilon, sample, v_prediction")
