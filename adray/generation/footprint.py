"""How much memory generators take, found on torch's meta device: shapes are followed, nothing is computed or allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adray.generation.components import Components
from adray.generation.denoiser import predict

ROUND_UP = 1.1
"""Workspace and fragmentation on top of what is counted; a judgement."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device.

    Attributes:
        weights: All networks, fp32.
        training: Gradient and Adam's two moments of the trained part, fp32.
        activations: What the backward pass keeps of one micro-batch.
    """

    weights: int
    training: int
    activations: int

    @property
    def total(self) -> float:
        """With `ROUND_UP`."""
        return ROUND_UP * (self.weights + self.training + self.activations)

    def text(self) -> str:
        """For people."""
        gib = [value / 2**30 for value in (self.total, self.weights, self.training, self.activations)]
        return "about {:.1f} GiB: {:.2f} weights, {:.2f} gradients and moments, {:.2f} activations".format(*gib)


def parameters(modules: Iterable[nn.Module | None]) -> int:
    """Number of parameters of some modules."""
    return sum(p.numel() for module in modules if module is not None for p in module.parameters())


def feedback_footprint(
    parts: Components, side: int, rows: int, *, teacher: bool, half: bool, recompute: bool, inspector: int = 0
) -> Footprint:
    """Memory of a fine-tuning worker: the guided step through ControlNet and UNet, and the decoded picture.

    The UNet's encoder keeps nothing: no trained weight lies before it. Both branches of guidance pass at once.

    Args:
        parts: On the meta device.
        side: Of a picture, in pixels.
        rows: Pictures of a micro-batch.
        teacher: Whether a frozen copy of the ControlNet is held.
        half: Whether activations are bf16.
        recompute: Whether the inside of blocks is computed again in the backward pass.
        inspector: Parameters of the inspector.
    """
    unet, controlnet, vae = parts.unet, parts.controlnet, parts.vae
    cells = side // parts.latent_scale
    channels, width = int(vae.config.latent_channels), int(parts.text_encoder.config.hidden_size)
    tokens = int(parts.tokenizer.model_max_length) if parts.tokenizer is not None else 77
    size = 2 if half else 4
    with torch.device("meta"):
        latents, text = torch.zeros(2 * rows, channels, cells, cells), torch.zeros(2 * rows, tokens, width)
        edges = torch.zeros(2 * rows, 3, side, side)
        known = torch.zeros(2 * rows, 1 + channels, cells, cells) if parts.inpaints else None
        after_residuals = [*unet.up_blocks, unet.conv_norm_out, unet.conv_out]
        kept = _kept(
            [controlnet, *after_residuals],
            lambda: predict(unet, controlnet, latents, torch.zeros(2 * rows, dtype=torch.int64), text, edges, known),
            recompute,
        )
        kept += _kept([vae], lambda: vae.decode(torch.zeros(rows, channels, cells, cells)).sample, recompute)
    trained = parameters([controlnet])
    held = parameters([unet, controlnet, vae, parts.text_encoder]) + (trained if teacher else 0) + inspector
    return Footprint(4 * held, 12 * trained, size * kept)


def denoising_footprint(parts: Components, trained: Sequence[str], side: int, rows: int, *, half: bool, recompute: bool) -> Footprint:
    """Memory of a worker that trains a generator on pictures: one denoising step.

    A UNet that is frozen keeps only what lies behind the ControlNet's residuals.

    Args:
        parts: On the meta device.
        trained: Names of the parts that learn.
        side: Of a picture, in pixels.
        rows: Pictures of a micro-batch.
        half: Whether activations are bf16.
        recompute: Whether the inside of blocks is computed again in the backward pass.
    """
    unet, controlnet = parts.unet, parts.controlnet
    cells, channels = side // parts.latent_scale, int(parts.vae.config.latent_channels)
    text_config = parts.text_encoder.config
    tokens = int(parts.tokenizer.model_max_length) if parts.tokenizer is not None else int(text_config.max_position_embeddings)
    kept_of = [unet, controlnet] if {"unet", "text_encoder"} & set(trained) else [controlnet, *unet.up_blocks, unet.conv_norm_out]
    with torch.device("meta"):
        latents, text = torch.zeros(rows, channels, cells, cells), torch.zeros(rows, tokens, int(text_config.hidden_size))
        known = torch.zeros(rows, 1 + channels, cells, cells) if parts.inpaints else None
        timesteps, edges = torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, 3, side, side)
        kept = _kept(kept_of, lambda: predict(unet, controlnet, latents, timesteps, text, edges, known), recompute)
        if "text_encoder" in trained:
            kept += _kept([parts.text_encoder], lambda: parts.text_encoder(torch.zeros(rows, tokens, dtype=torch.int64)), recompute)
    learning = parameters([getattr(parts, name) for name in trained])
    return Footprint(4 * parameters(parts.networks()), 12 * learning, (2 if half else 4) * kept)


def _kept(parts: Iterable[nn.Module], run: Callable[[], object], recompute: bool) -> int:
    """Elements of the outputs of all layers below `parts` while `run` runs; with `recompute` those of whole blocks alone."""
    total = 0

    def count(module: nn.Module, arguments: object, output: object) -> None:
        nonlocal total
        tensors = output if isinstance(output, tuple) else (output,)
        total += sum(t.numel() for t in tensors if isinstance(t, Tensor))

    modules = {id(m): m for part in parts for m in part.modules()}
    chosen = [m for m in modules.values() if (_is_block(m) if recompute else not list(m.children()))]
    with _hooked(chosen, count):
        run()
    return total


def _is_block(module: nn.Module) -> bool:
    """What diffusers recomputes as a whole: residual blocks and Transformer blocks."""
    return type(module).__name__ in {"ResnetBlock2D", "BasicTransformerBlock"}


@contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(hook).remove)
        yield
