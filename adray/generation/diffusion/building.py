"""A generator of given sizes from nothing: a fitted autoencoder, the words of captions, networks of random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from adray.generation.autoencoder import PatchAutoencoder
from adray.generation.components import Components
from adray.generation.diffusion.sizes import NoiseConfig, SizesConfig
from adray.generation.tokenizer import END, PAD, word_tokenizer


def build_components(sizes: SizesConfig, vae: PatchAutoencoder, prompts: Iterable[str]) -> Components:
    """Build a generator. Weights are drawn from the global torch seed; the vocabulary depends on the texts alone.

    Args:
        sizes: Of its parts.
        vae: The fitted autoencoder.
        prompts: Texts that the vocabulary is taken from.
    """
    tokenizer = word_tokenizer(prompts, sizes.text.vocabulary, sizes.text.max_tokens)
    networks = _networks(sizes, len(tokenizer), tokenizer.convert_tokens_to_ids(PAD), tokenizer.convert_tokens_to_ids(END))
    return Components(vae=vae, tokenizer=tokenizer, scheduler=noise_scheduler(sizes.noise), **networks)


def meta_build(sizes: SizesConfig) -> Components:
    """The same on torch's meta device: shapes without memory, no tokenizer."""
    with torch.device("meta"):
        vae = PatchAutoencoder(sizes.autoencoder.patch, sizes.autoencoder.latent_channels)
        networks = _networks(sizes, sizes.text.vocabulary, 0, 2)
    return Components(vae=vae, tokenizer=None, scheduler=noise_scheduler(sizes.noise), **networks)


def noise_scheduler(noise: NoiseConfig) -> Any:
    """A `DDIMScheduler` that also tells samplers to start at the last timestep, which is where training ends."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule=noise.schedule,
        beta_start=noise.beta_start,
        beta_end=noise.beta_end,
        prediction_type=noise.prediction_type,
        rescale_betas_zero_snr=noise.zero_terminal_snr,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def _networks(sizes: SizesConfig, words: int, pad: int, end: int) -> dict[str, Any]:
    from diffusers import ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet_config, text = sizes.unet, sizes.text
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in unet_config.attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(unet_config.attention)]
    unet = UNet2DConditionModel(
        in_channels=sizes.autoencoder.latent_channels,
        out_channels=sizes.autoencoder.latent_channels,
        block_out_channels=tuple(unet_config.channels),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        layers_per_block=unet_config.layers,
        cross_attention_dim=text.width,
        attention_head_dim=unet_config.heads,  # diffusers' name for the number of heads
        norm_num_groups=unet_config.groups,
    )
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=tuple(unet_config.edges))
    if unet_config.inpainting:
        _widen(unet, 2 * sizes.autoencoder.latent_channels + 1)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=text.width,
            intermediate_size=2 * text.width,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            max_position_embeddings=text.max_tokens,
            pad_token_id=pad,
            bos_token_id=end,
            eos_token_id=end,
        )
    )
    return {"unet": unet, "controlnet": controlnet, "text_encoder": encoder}


def _widen(unet: Any, channels: int) -> None:
    """Let a UNet read more channels, of which it takes no notice at first (as Stable Diffusion's inpainting UNet was begun)."""
    narrow = unet.conv_in
    wide = torch.nn.Conv2d(channels, narrow.out_channels, narrow.kernel_size, padding=narrow.padding)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : narrow.in_channels] = narrow.weight
        wide.bias.copy_(narrow.bias)  # type: ignore[union-attr]
    unet.conv_in = wide
    unet.register_to_config(in_channels=channels)
