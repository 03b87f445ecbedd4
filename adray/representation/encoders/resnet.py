"""ResNet from scratch (He et al. 2016), any depth and width, with a stem for small pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from adray.config import Config
from adray.representation.encoders.pixels import PixelEncoder


class ResnetConfig(Config):
    """A residual network without pretrained weights. The defaults are a ResNet-18 for pictures of 64 pixels."""

    kind: Literal["resnet"] = "resnet"
    """A residual network."""
    image_size: int = Field(default=64, ge=16, le=1024)
    """Side of the square that pictures are brought to, in pixels."""
    stem: Literal["small", "imagenet"] = "small"
    """`imagenet`: 7x7 convolution and pooling, 1/4 of the size. `small`: one 3x3 convolution of `stem_stride`."""
    stem_stride: Literal[1, 2] = 2
    """Stride of the small stem."""
    block: Literal["basic", "bottleneck"] = "basic"
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the width."""
    depths: list[int] = [2, 2, 2, 2]
    """Blocks of each stage."""
    widths: list[int] = [64, 128, 256, 512]
    """Channels of each stage; every stage but the first halves the size."""

    @model_validator(mode="after")
    def _stages(self) -> ResnetConfig:
        if len(self.depths) != len(self.widths) or not self.depths or min(*self.depths, *self.widths) < 1:
            raise ValueError(f"depths {self.depths} and widths {self.widths} need one positive number per stage each")
        return self


class _Block(nn.Module):
    """`relu(x + f(x))`, where f ends in a BatchNorm that starts at zero, so that the block starts as the identity.

    Args:
        channels: Of the input.
        width: Of the convolutions.
        stride: Of the block.
        bottleneck: Which of the two forms.
    """

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        kernels: tuple[tuple[int, int, int, int], ...]
        if bottleneck:
            kernels = ((channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1))
        else:
            kernels = ((channels, width, 3, stride), (width, out, 3, 1))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, k, s, k // 2, bias=False) for a, b, k, s in kernels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _, _ in kernels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        # Goyal et al. 2017, section 5.1; MoCo v3 does the same.
        nn.init.zeros_(self.norms[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = norm(convolution(y))
            if i + 1 < len(self.norms):
                y = F.relu(y, inplace=True)
        return F.relu(y + self.shortcut(x), inplace=True)


class Resnet(PixelEncoder):
    """A residual network whose vector is the mean of its last feature map.

    Args:
        config: Its config.
    """

    def __init__(self, config: ResnetConfig) -> None:
        super().__init__(config.kind, config.image_size)
        first = config.widths[0]
        if config.stem == "imagenet":
            layers: list[nn.Module] = [
                nn.Conv2d(3, first, 7, 2, 3, bias=False),
                nn.BatchNorm2d(first),
                nn.ReLU(True),
                nn.MaxPool2d(3, 2, 1),
            ]
        else:
            layers = [nn.Conv2d(3, first, 3, config.stem_stride, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(True)]
        self.stem = nn.Sequential(*layers)
        bottleneck, channels, blocks = config.block == "bottleneck", first, []
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            for i in range(depth):
                blocks.append(_Block(channels, width, 2 if i == 0 and stage > 0 else 1, bottleneck))
                channels = 4 * width if bottleneck else width
        self.blocks = nn.Sequential(*blocks)
        self.dim = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def backbone(self, pixels: Tensor) -> Tensor:
        """See `PixelEncoder.backbone`."""
        # Channels last is what the convolution kernels of CPUs and of GPUs in half precision want.
        maps = self.blocks(self.stem(pixels.contiguous(memory_format=torch.channels_last)))
        return maps.mean(dim=(2, 3))


def build_resnet(config: ResnetConfig, assets: Mapping[str, Any] | None) -> Resnet:
    """Build the network; weights are drawn from torch's global seed.

    Args:
        config: Its config.
        assets: Unused: the config says all.
    """
    del assets
    return Resnet(config)
