"""What pictures are generated under: text, product edges, and the product's own latents with the cells that may be repainted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adray.generation.components import Components
from adray.generation.conditioning import canny_edges, inpaint_masks

MaskCells = Literal["nearest", "any"]


@dataclass(frozen=True)
class Condition:
    """Conditions of n pictures of `side` pixels, on a grid of `h` x `w` latent cells.

    Attributes:
        text: float `[n, length, width]`, the encoded prompts.
        negative: float `[n, length, width]`, the encoded negative prompts: the unconditional branch of guidance.
        edges: float `[n, 3, side, side]` in [0, 1], what the ControlNet sees; both branches get it.
        product: float `[n, c, h, w]`, clean latents of the product picture.
        repaint: float `[n, 1, h, w]`, 1 where a cell may be repainted, 0 where the product's latents are kept.
        known: float `[n, 1 + c, h, w]`, what an inpainting UNet reads beside x_t: the mask, and the latents of the picture without
            what may be repainted; None for UNets that read x_t alone.
    """

    text: Tensor
    negative: Tensor
    edges: Tensor
    product: Tensor
    repaint: Tensor
    known: Tensor | None = None

    def __len__(self) -> int:
        return len(self.edges)

    def to(self, device: torch.device | str) -> Condition:
        """Copy to a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return Condition(**moved)


def cutout_tensor(cutouts: np.ndarray) -> Tensor:
    """uint8 `[n, height, width, 4]` to float `[n, 4, height, width]` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(cutouts)).permute(0, 3, 1, 2).float() / 255.0


def cell_mask(masks: np.ndarray, cell: int, how: MaskCells) -> Tensor:
    """Masks of pixels as masks of latent cells.

    Args:
        masks: bool `[n, side, side]`, where pixels may be repainted.
        cell: Pixels per cell.
        how: `nearest` reads one pixel of each cell, as diffusers' inpainting does. `any` lets a cell be repainted if any of its
            pixels may be; without it a coarse grid freezes what surrounds small products.

    Returns:
        float `[n, 1, side / cell, side / cell]`.
    """
    pixels = torch.from_numpy(masks)[:, None].float()
    if how == "any":
        return F.max_pool2d(pixels, cell)
    return F.interpolate(pixels, (masks.shape[1] // cell, masks.shape[2] // cell))


def tokenize(components: Components, prompts: Sequence[str]) -> Tensor:
    """int64 `[n, length]` of prompts, padded or cut off to the tokenizer's length."""
    tokenizer = components.tokenizer
    tokens = tokenizer(list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt")
    ids: Tensor = tokens.input_ids
    return ids


@torch.no_grad()
def encode_prompts(components: Components, prompts: Sequence[str]) -> Tensor:
    """float `[n, length, width]` of prompts, padded or cut off to the tokenizer's length."""
    device = next(components.text_encoder.parameters()).device
    return components.text_encoder(tokenize(components, prompts).to(device))[0]


def product_pictures(cutouts: np.ndarray) -> Tensor:
    """Cut-outs uint8 `[n, side, side, 4]` on black: float `[n, 3, side, side]` in [-1, 1]."""
    straight = cutout_tensor(cutouts)
    return 2.0 * straight[:, :3] * straight[:, 3:] - 1.0


@torch.no_grad()
def encode_pictures(components: Components, pictures: Tensor) -> Tensor:
    """Clean, scaled latents float `[n, c, h, w]` of pictures float `[n, 3, side, side]` in [-1, 1].

    The mode of the encoder's distribution, not a draw: a picture depends on its own seed alone.
    """
    like = next(chain(components.vae.parameters(), components.vae.buffers()))
    return components.vae.encode(pictures.to(like.device, like.dtype)).latent_dist.mode() * components.vae.config.scaling_factor


def known_latents(components: Components, pictures: Tensor, masks: np.ndarray) -> Tensor:
    """What an inpainting UNet reads beside x_t (Rombach et al. 2022, section 4.5): the mask, and latents of the masked picture.

    Args:
        components: The generator.
        pictures: float `[n, 3, side, side]` in [-1, 1].
        masks: bool `[n, side, side]`, where pixels may be repainted; they are 0, a mid grey, in the masked picture.

    Returns:
        float `[n, 1 + c, h, w]`.
    """
    masked = encode_pictures(components, pictures * torch.from_numpy(~masks)[:, None].to(pictures))
    return torch.cat([cell_mask(masks, components.latent_scale, "nearest").to(masked), masked], dim=1)


def decode_latents(components: Components, latents: Tensor) -> Tensor:
    """Pictures float `[n, 3, side, side]` in [0, 1] of scaled latents; gradients reach the latents."""
    return (components.vae.decode(latents / components.vae.config.scaling_factor).sample / 2.0 + 0.5).clamp(0, 1)


def make_condition(
    components: Components, cutouts: np.ndarray, prompts: Sequence[str], negatives: Sequence[str], mask_cells: MaskCells = "nearest"
) -> Condition:
    """Conditions of n pictures (the published inference pipeline: canny edges, dilated inpaint mask).

    Args:
        components: The generator.
        cutouts: uint8 `[n, side, side, 4]`, each product at its place.
        prompts: n texts.
        negatives: n texts; "" is the empty prompt.
        mask_cells: See `cell_mask`.
    """
    masks = inpaint_masks(cutouts)
    edges = torch.from_numpy(canny_edges(cutouts)).permute(0, 3, 1, 2).float() / 255.0
    pictures = product_pictures(cutouts)
    product = encode_pictures(components, pictures)
    text, negative = encode_prompts(components, prompts), encode_prompts(components, negatives)
    repaint, known = cell_mask(masks, components.latent_scale, mask_cells), None
    if components.inpaints:
        # The UNet was taught to keep what is known; nothing is forced upon its latents.
        repaint, known = torch.ones_like(repaint), known_latents(components, pictures, masks)
    return Condition(text, negative, edges, product, repaint, known).to(product.device)
