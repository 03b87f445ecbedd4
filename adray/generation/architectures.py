"""Sizes of published generators, to be built without weights: for memory estimates where no checkpoint is at hand."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from adray.generation.components import Components

Architecture = Literal["sd15"]

_SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_SD15_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
_SD15_TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}


def meta_architecture(name: Architecture) -> Components:
    """The networks of an architecture on torch's meta device: shapes without memory, no tokenizer.

    Args:
        name: `sd15` is Stable Diffusion 1.5 with a ControlNet v1.1 (Rombach et al. 2022, Zhang et al. 2023): 860 M, 361 M, 84 M and
            123 M parameters of UNet, ControlNet, autoencoder and text encoder.
    """
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**_SD15_UNET)
        controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        vae = AutoencoderKL(**_SD15_VAE)
        text = CLIPTextModel(CLIPTextConfig(**_SD15_TEXT))
    return Components(unet, controlnet, vae, text, None, DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1))
