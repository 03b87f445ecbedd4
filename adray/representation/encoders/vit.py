"""Vision transformer from scratch, made stable for self-supervised training as MoCo v3 does (Chen, Xie and He 2021, section 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from adray.config import Config
from adray.representation.encoders.pixels import PixelEncoder

_EPS = 1e-6
_TEMPERATURE = 10000.0


class VitConfig(Config):
    """A vision transformer without pretrained weights. The defaults are MoCo v3's ViT-S/16."""

    kind: Literal["vit"] = "vit"
    """A vision transformer."""
    image_size: int = Field(default=224, ge=16, le=1024)
    """Side of the square that pictures are brought to, in pixels."""
    patch: int = Field(default=16, ge=2)
    """Side of a patch, in pixels; divides `image_size`."""
    width: int = Field(default=384, ge=4)
    """Features per token; divisible by 4 and by `heads`."""
    depth: int = Field(default=12, ge=1)
    """Blocks."""
    heads: int = Field(default=12, ge=1)
    """Attention heads. MoCo v3's ViT-S has 12, DeiT's has 6."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Hidden width of the perceptrons as a multiple of `width`."""
    freeze_patches: bool = True
    """Leave the patch projection at its random start: gradient spikes begin there."""

    @model_validator(mode="after")
    def _divides(self) -> VitConfig:
        if self.image_size % self.patch:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch {self.patch}")
        if self.width % 4 or self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of 4 and of heads {self.heads}")
        return self


def sincos_positions(side: int, width: int) -> Tensor:
    """Fixed 2-D position embedding with a zero for the class token.

    With d = width / 4 and w_k = 10000^(-k / d), a patch at (x, y) has sin(x w), cos(x w), sin(y w), cos(y w) side by side.

    Args:
        side: Patches per side.
        width: Features, a multiple of 4.

    Returns:
        float32 `[1, 1 + side^2, width]`, patches row by row.
    """
    frequencies = _TEMPERATURE ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [(axis.flatten()[:, None] * frequencies) for axis in (x, y)]
    table = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(1, width), table.float()])[None]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        # Query, key and value are three matrices of width x width, not one of width x 3 width.
        nn.init.uniform_(self.qkv.weight, -math.sqrt(6 / (2 * width)), math.sqrt(6 / (2 * width)))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, eps=_EPS), _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(PixelEncoder):
    """A vision transformer whose vector is the class token after the last LayerNorm.

    Args:
        config: Its config.
    """

    positions: Tensor

    def __init__(self, config: VitConfig) -> None:
        super().__init__(config.kind, config.image_size)
        width = self.dim = config.width
        self.patches = nn.Conv2d(3, width, config.patch, config.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.register_buffer("positions", sincos_positions(config.image_size // config.patch, width), persistent=False)
        self.blocks = nn.Sequential(*(_Block(width, config.heads, int(width * config.mlp_ratio)) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self._initialise()
        if config.freeze_patches:
            self.patches.requires_grad_(False)

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                if not name.endswith("qkv"):
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # As the matrix that it is: 3 patch^2 inputs, not a convolution's fan.
        bound = math.sqrt(6 / (self.patches.weight[0].numel() + self.dim))
        nn.init.uniform_(self.patches.weight, -bound, bound)
        assert self.patches.bias is not None
        nn.init.zeros_(self.patches.bias)
        nn.init.normal_(self.class_token, std=1e-6)

    def backbone(self, pixels: Tensor) -> Tensor:
        """See `PixelEncoder.backbone`."""
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
        return self.norm(self.blocks(tokens + self.positions.to(tokens.dtype)))[:, 0]


def build_vit(config: VitConfig, assets: Mapping[str, Any] | None) -> Vit:
    """Build the transformer; weights are drawn from torch's global seed.

    Args:
        config: Its config.
        assets: Unused: the config says all.
    """
    del assets
    return Vit(config)
