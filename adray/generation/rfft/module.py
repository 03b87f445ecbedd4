"""RFFT as the one trainer trains it: sample without gradient, take one step with it, let the inspector judge what it promises."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adray.feedback.artifact import LoadedInspector
from adray.feedback.metrics import AVAILABLE
from adray.generation.artifact import export_generator
from adray.generation.components import Components
from adray.generation.condition import Condition, cutout_tensor, decode_latents, make_condition
from adray.generation.conditioning import paste_tensor
from adray.generation.denoiser import branches, guided, predict
from adray.generation.rfft.config import FeedbackConfig
from adray.generation.rfft.losses import available_loss, consistent_condition, refl_loss, teacher_distance
from adray.generation.rfft.source import FeedbackBatch
from adray.generation.sampler import SamplingConfig, denoise, draw_noise
from adray.generation.schedule import clean_prediction, make_scheduler
from adray.training.module import TrainModule


class FeedbackModule(TrainModule):
    """The ControlNet learns; UNet, autoencoder, text encoder, inspector and the teacher, a copy of the first ControlNet, are frozen.

    Args:
        components: The generator.
        inspector: The reward.
        feedback: Loss and regulariser.
        sampling: The sampler that is trained through.
        lineage: Where it came from, kept in the artifact.
    """

    def __init__(
        self,
        components: Components,
        inspector: LoadedInspector,
        feedback: FeedbackConfig,
        sampling: SamplingConfig,
        lineage: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._parts, self._feedback, self._lineage = components, feedback, dict(lineage or {})
        self._sampling = sampling if feedback.guided else sampling.model_copy(update={"guidance": 1.0})
        self.unet, self.vae, self.text_encoder = components.unet, components.vae, components.text_encoder
        self.inspector = inspector
        # The UNet is shared, so the teacher costs one ControlNet.
        self.teacher = copy.deepcopy(components.controlnet) if feedback.regulariser != "none" else None
        for part in self._frozen():
            part.eval().requires_grad_(False)
        self.controlnet = components.controlnet.requires_grad_(True)

    def _frozen(self) -> list[torch.nn.Module]:
        parts = [self.unet, self.vae, self.text_encoder, self.inspector]
        return parts if self.teacher is None else [*parts, self.teacher]

    def train(self, mode: bool = True) -> FeedbackModule:
        """Training mode for the ControlNet alone."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def gradient_checkpointing_enable(self) -> None:
        """Recompute the blocks of ControlNet, UNet and autoencoder in the backward pass; what the trainer looks for."""
        for part in (self.controlnet, self.unet, self.vae):
            enable = getattr(part, "enable_gradient_checkpointing", None)
            if callable(enable) and getattr(part, "_supports_gradient_checkpointing", False):
                enable()

    def forward(self, batch: FeedbackBatch) -> dict[str, Tensor]:
        """Loss of one micro-batch; `available` is the mean probability of that label at the predicted clean picture."""
        condition = make_condition(self._parts, batch.products.cutouts, batch.prompts, batch.negatives, self._sampling.mask_cells)
        latents, timestep, scheduler = self.before_gradient(batch, condition)
        outputs = self._outputs(latents, timestep, condition)
        clean = clean_prediction(scheduler, guided(*outputs, self._sampling.guidance), timestep, latents)
        logits = self.judge(clean, condition, batch)
        reward = available_loss(logits) if self._feedback.loss == "available" else refl_loss(logits)
        found = {"feedback": reward.detach(), "available": logits.detach().softmax(dim=1)[:, AVAILABLE].mean()}
        if self.teacher is None:
            return {"loss": reward, **found}
        kept = self._regulariser(outputs, latents, timestep, condition, scheduler)
        return {"loss": reward + self._feedback.beta * kept, "regulariser": kept.detach(), **found}

    def before_gradient(self, batch: FeedbackBatch, condition: Condition) -> tuple[Tensor, Tensor, Any]:
        """Denoise without gradient up to the chosen step.

        Returns:
            x_t float `[n, c, h, w]`, its timestep, and the scheduler.
        """
        sampling = self._sampling
        scheduler = make_scheduler(self._parts.scheduler, sampling.scheduler, sampling.steps)
        noise = draw_noise(condition.product.shape[1:], batch.seeds).to(condition.product)
        with torch.autocast(noise.device.type, torch.bfloat16) if self._feedback.rollout == "bf16" else nullcontext():
            latents = denoise(self.unet, self.controlnet, scheduler, condition, noise, sampling, stop=batch.step)
        return latents.to(noise.dtype), scheduler.timesteps[batch.step], scheduler

    def _outputs(self, latents: Tensor, timestep: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        scale = self._sampling.control_scale
        if self._sampling.guidance == 1.0 and self._feedback.regulariser != "cc":
            alone = predict(self.unet, self.controlnet, latents, timestep, condition.text, condition.edges, condition.known, scale)
            return alone, alone
        return branches(self.unet, self.controlnet, latents, timestep, condition, scale)

    def judge(self, clean: Tensor, condition: Condition, batch: FeedbackBatch) -> Tensor:
        """The inspector's logits, float `[n, 5]`, of predicted clean latents, with the product laid in as in the final picture."""
        kept = (1.0 - condition.repaint) * condition.product + condition.repaint * clean
        cutouts = cutout_tensor(batch.products.cutouts).to(clean.device)
        pictures = paste_tensor(decode_latents(self._parts, kept).float(), cutouts)
        return self.inspector(pictures, cutouts, list(batch.products.titles), detach_maps=self._feedback.detach_maps).float()

    def _regulariser(
        self, outputs: tuple[Tensor, Tensor], latents: Tensor, timestep: Tensor, condition: Condition, scheduler: Any
    ) -> Tensor:
        scale = self._sampling.control_scale
        assert self.teacher is not None
        with torch.no_grad():
            if outputs[0] is outputs[1]:
                alone = predict(self.unet, self.teacher, latents, timestep, condition.text, condition.edges, condition.known, scale)
                teacher = (alone, alone)
            else:
                teacher = branches(self.unet, self.teacher, latents, timestep, condition, scale)
        if self._feedback.regulariser == "cc":
            return consistent_condition(outputs, teacher, scheduler, timestep, self._feedback.cc_form)
        return teacher_distance(outputs[1], teacher[1], scheduler, timestep)

    def export(self, folder: Path) -> None:
        """Write the generator with its tuned ControlNet into `folder/generator`."""
        export_generator(folder / "generator", self._parts, lineage=self._lineage)
