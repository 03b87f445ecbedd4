"""A Stable-Diffusion-shaped generator of random weights, small enough for unit tests, and cut-outs for it."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from adray.generation.components import Components

SIDE = 32
WORDS = ["red", "blue", "green", "room", "plain", "wall", "mini", "giant", "kettle", "chair"]


def tiny_components(
    prediction_type: str = "epsilon", seed: int = 0, inpaints: bool = False, widths: tuple[int, int] = (16, 32)
) -> Components:
    """Latents of 4 channels on 8 x 8 cells of 4 pixels."""
    torch.manual_seed(seed)
    sizes = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "block_out_channels": widths,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
    }
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=9 if inpaints else 4, out_channels=4, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **sizes
    )
    controlnet = ControlNetModel(in_channels=4, conditioning_embedding_out_channels=(8, 16, 16), **sizes)
    # A fresh ControlNet's residuals are zero; tests want one that says something.
    for part in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        torch.nn.init.normal_(part.weight, std=0.3)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=8,
        latent_channels=4,
    )
    # Its posterior then has no width, so that a draw from it and its mode are one.
    torch.nn.init.constant_(vae.quant_conv.bias[4:], -30.0)
    torch.nn.init.zeros_(vae.quant_conv.weight[4:])
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=12
        )
    )
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, **{w: i + 2 for i, w in enumerate(WORDS)}}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=12)
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, prediction_type=prediction_type)
    parts = [part.eval() for part in (unet, controlnet, vae, text)]
    return Components(parts[0], parts[1], parts[2], parts[3], tokenizer, scheduler)


def box_cutouts(n: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Boxes of random colour, uint8 `[n, side, side, 4]`."""
    rng = np.random.default_rng(seed)
    cutouts = np.zeros((n, side, side, 4), np.uint8)
    for picture in cutouts:
        left, top = rng.integers(4, side // 3, 2)
        picture[top : top + side // 2, left : left + side // 2] = (*rng.integers(0, 256, 3), 255)
    return cutouts
