"""A generator as the one trainer trains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from adray.generation.artifact import export_generator
from adray.generation.components import Components
from adray.generation.condition import encode_pictures, known_latents, product_pictures, tokenize
from adray.generation.conditioning import inpaint_masks
from adray.generation.denoiser import predict
from adray.generation.diffusion.losses import ObjectiveConfig, cell_weights, denoising_loss, loss_weights, target_of
from adray.generation.diffusion.source import DiffusionBatch
from adray.generation.sampler import draw_noise
from adray.generation.schedule import clean_prediction, signal_and_noise
from adray.training.module import TrainModule

_SHORT_CELLS = 256
"""Latent cells up to which plain attention beats the fused kernel on CPUs, whose backward pass is slow for short sequences."""
_LEVELS = ("little_noise", "medium_noise", "much_noise")


class DiffusionModule(TrainModule):
    """The denoising objective (Ho et al. 2020) for a UNet steered by a ControlNet.

    Args:
        components: The generator; its autoencoder stays as it is.
        trained: Names of the parts that learn.
        objective: How errors are weighed.
        lineage: Where it came from, kept in the artifact.
    """

    def __init__(
        self, components: Components, trained: Sequence[str], objective: ObjectiveConfig, lineage: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._parts, self._objective, self._lineage = components, objective, dict(lineage or {})
        self.unet, self.controlnet = components.unet, components.controlnet
        self.vae, self.text_encoder = components.vae, components.text_encoder
        parts = {"unet": self.unet, "controlnet": self.controlnet, "vae": self.vae, "text_encoder": self.text_encoder}
        self._frozen = [name for name in parts if name not in trained]
        for name, part in parts.items():
            part.requires_grad_(name in trained)
        self.metrics: dict[str, float] = {}

    def train(self, mode: bool = True) -> DiffusionModule:
        """Training mode for the parts that learn."""
        super().train(mode)
        for name in self._frozen:
            getattr(self, name).eval()
        return self

    def gradient_checkpointing_enable(self) -> None:
        """Recompute the blocks of UNet and ControlNet in the backward pass; what the trainer looks for."""
        for part in (self.unet, self.controlnet):
            part.enable_gradient_checkpointing()

    def forward(self, batch: DiffusionBatch) -> dict[str, Tensor]:
        """Loss of one micro-batch; `clean_error` is the mean squared error of the clean latents, unweighted."""
        errors, clean = self._errors(batch)
        return {"loss": errors.mean(), "clean_error": clean.detach().mean()}

    def _errors(self, batch: DiffusionBatch) -> tuple[Tensor, Tensor]:
        """Loss and squared error of the predicted clean latents, float `[n]` each."""
        parts, scheduler = self._parts, self._parts.scheduler
        device = batch.pictures.device
        timesteps = (batch.shares * scheduler.config.num_train_timesteps).long()
        # What is predicted stays exact; half precision is for the networks that learn.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            pictures = batch.pictures.float() / 127.5 - 1.0
            latents = encode_pictures(parts, pictures).float()
            noise = draw_noise(latents.shape[1:], batch.seeds).to(device)
            signal, spread = signal_and_noise(scheduler, timesteps, latents)
            noisy = signal * latents + spread * noise
            known = self._known(batch.cutouts) if parts.inpaints else None
        ids = tokenize(parts, batch.prompts).to(device)
        with _attention(device, latents):
            text = self.text_encoder(ids)[0]
            output = predict(self.unet, self.controlnet, noisy, timesteps, text, batch.edges.float() / 255.0, known).float()
        weights = loss_weights(scheduler, timesteps, self._objective)
        cells = cell_weights(batch.cutouts[:, 3].float() / 255.0, parts.latent_scale, self._objective.product_weight)
        loss = denoising_loss(output, target_of(scheduler, latents, noise, timesteps), weights, cells)
        clean = clean_prediction(scheduler, output.detach(), timesteps, noisy)
        return loss, (clean - latents).square().mean(dim=(1, 2, 3))

    def _known(self, cutouts: Tensor) -> Tensor:
        """What an inpainting UNet is told, made as in sampling: of the cut-out, not of the picture around it."""
        pixels = np.ascontiguousarray(cutouts.permute(0, 2, 3, 1).cpu().numpy())
        return known_latents(self._parts, product_pictures(pixels), inpaint_masks(pixels))

    def evaluate(self, batches: Iterable[DiffusionBatch]) -> dict[str, float]:
        """The loss on held-out pictures, and the clean latents' error by amount of noise (thirds of the timesteps)."""
        losses, errors, shares = [], [], []
        for batch in batches:
            loss, error = self._errors(batch)
            losses.append(loss.cpu())
            errors.append(error.cpu())
            shares.append(batch.shares.cpu())
        error, level = torch.cat(errors), (3 * torch.cat(shares)).long()
        self.metrics = {"diffusion/holdout_loss": float(torch.cat(losses).mean())}
        for index, name in enumerate(_LEVELS):
            if (level == index).any():
                self.metrics[f"diffusion/clean_error/{name}"] = float(error[level == index].mean())
        return self.metrics

    def export(self, folder: Path) -> None:
        """Write the generator into `folder/generator`."""
        export_generator(folder / "generator", self._parts, self.metrics, self._lineage)


def _attention(device: torch.device, latents: Tensor) -> Any:
    short = device.type == "cpu" and latents.shape[2] * latents.shape[3] <= _SHORT_CELLS
    return sdpa_kernel(SDPBackend.MATH) if short else nullcontext()
