"""RFNet (Du et al., "Towards Reliable Advertising Image Generation Using Human Feedback", ECCV 2024), and single-picture baselines.

The product picture is filtered by the title, fused with the generated picture, its depth and its saliency, and classified into
five labels. Where the paper is silent: one shared trunk with an embedding per picture, 3x3 convolutions in the filter, mean
pooling. Plain single-device PyTorch; no I/O.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.data.labels import LABELS
from adray.feedback.config import PICTURES, ModelConfig, RFNetConfig, SingleConfig
from adray.feedback.encoders import ResNet, TitleEncoder, VisionTransformer, plain
from adray.feedback.inputs import Inputs, modalities

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureFilter(nn.Module):
    """One block of the Feature Filter Module: the picture asks, the title answers, and the answer gates the picture.

    `e_f = Conv(Conv(CrossAttn(Q = e_o, K = V = e_c)) * Conv(e_o)) + e_o`, with 3x3 convolutions over the grid.

    Args:
        width: Of picture and title features.
        heads: Of the attention.
    """

    checkpoint_activations = True

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.answer, self.gate, self.mixed = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        # From small random starts the product of two convolutions, convolved again, passes next to nothing of the title.
        for conv in (self.answer, self.gate, self.mixed):
            with torch.no_grad():
                conv.weight += nn.init.dirac_(torch.empty_like(conv.weight))
        assert self.gate.bias is not None
        nn.init.ones_(self.gate.bias)
        # Likewise the default starts of the attention would leave a third of what the title says.
        with torch.no_grad():
            self.attention.in_proj_weight[2 * width :] = nn.init.orthogonal_(torch.empty(width, width))
        nn.init.orthogonal_(self.attention.out_proj.weight)

    def forward(self, picture: Tensor, title: Tensor, absent: Tensor) -> Tensor:
        """Filter a grid of features.

        Args:
            picture: float `[n, width, h, w]`.
            title: float `[n, length, width]`.
            absent: bool `[n, length]`, True where there is no token.

        Returns:
            float `[n, width, h, w]`.
        """
        tokens = picture.flatten(2).transpose(1, 2)
        asked, _ = self.attention(tokens, title, title, key_padding_mask=absent, need_weights=False)
        grid = asked.transpose(1, 2).reshape(picture.shape)
        return self.mixed(self.answer(grid) * self.gate(picture)) + picture


class Inspector(nn.Module):
    """What judges pictures."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def assets(self) -> dict[str, Any]:
        """What rebuilds the network beside its config and weights: the sizes of its parts, and the tokenizer; JSON values."""
        raise NotImplementedError

    def part_widths(self) -> dict[str, int]:
        """Width of what `part_features` gives for each part."""
        raise NotImplementedError

    def part_features(self, inputs: Inputs) -> dict[str, Tensor]:
        """What the encoders of the generated picture and of the title make of them, each on its own: float `[n, width]`."""
        raise NotImplementedError

    def judged(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits, and on the way to them what `part_features` gives."""
        raise NotImplementedError

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, float `[n, 5]` in the order of `LABELS`."""
        return self.judged(inputs)[0]

    def normalised(self, pictures: Tensor) -> Tensor:
        """ImageNet's normalisation of float `[n, 3, h, w]` in [0, 1]."""
        return (pictures - self.mean) / self.std


class RFNet(Inspector):
    """The network.

    Args:
        config: Its sizes and switches.
        assets: As its `assets` gave them, from an artifact; None loads or builds what they hold.
    """

    def __init__(self, config: RFNetConfig, assets: dict[str, Any] | None = None) -> None:
        super().__init__()
        read = modalities(config)
        self.config = config
        self.names = tuple(name for name in read if name in PICTURES)
        count = 1 if config.shared_trunk else len(self.names)
        self.trunks = nn.ModuleList([ResNet(config.trunk, (assets or {}).get("trunk")) for _ in range(count)])
        trunk = self.trunks[0]
        assert isinstance(trunk, ResNet)
        self.reduce = nn.ModuleList([nn.Conv2d(trunk.width, config.width, 1) for _ in range(count)])
        self.title = TitleEncoder(config.text, (assets or {}).get("title")) if "copy" in read else None
        if self.title is not None:
            self.title_width = nn.Linear(self.title.width, config.width)
            nn.init.orthogonal_(self.title_width.weight)
            self.filters = nn.ModuleList([FeatureFilter(config.width, config.heads) for _ in range(config.filter_blocks)])
        # The title filters the product picture; without one, the first picture that there is.
        self.filtered = self.names[0]
        self.kinds = nn.Parameter(0.5 * torch.randn(len(self.names), config.width))
        if config.pool == "token":
            # Zero: after the first layer it is what it has gathered, nothing else.
            self.summary = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.concat == "channels":
            self.joined = nn.Linear(len(self.names) * config.width, config.width)
        self.fusion = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(
                    config.width, config.heads, 4 * config.width, config.dropout, F.gelu, batch_first=True, norm_first=True
                )
                for _ in range(config.fusion_layers)
            ]
        )
        self._look_at_the_own_place_first()
        self.last = nn.LayerNorm(config.width)
        self.classify = nn.Linear(config.width, len(LABELS))

    def _look_at_the_own_place_first(self) -> None:
        """Start keys equal to queries.

        A token then attends first to tokens like it, above all those of its own place in the other pictures. From independent
        starts this takes thousands of steps to be found.
        """
        for layer in self.fusion:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            weight = layer.self_attn.in_proj_weight
            with torch.no_grad():
                width = self.config.width
                weight[width : 2 * width] = weight[:width]

    def assets(self) -> dict[str, Any]:
        """See `Inspector`."""
        found = {"trunk": plain(self.trunks[0].net)}
        return found if self.title is None else {**found, "title": self.title.assets}

    def judged(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Inspector`."""
        grids = self._grids(inputs)
        parts = {"generated": grids["generated"].mean(dim=(2, 3))} if "generated" in grids else {}
        if self.title is not None:
            assert inputs.mask is not None
            words = self._words(inputs)
            parts["copy"] = _mean_word(words, inputs.mask)
            title = self.title_width(words)
            for block in self.filters:
                grids[self.filtered] = block(grids[self.filtered], title, inputs.mask == 0)
        tokens = [grid.flatten(2).transpose(1, 2) for grid in grids.values()]
        height, width = next(iter(grids.values())).shape[2:]
        place = places(height, width, self.config.width).to(tokens[0])
        if self.config.concat == "channels":
            fused = self.joined(torch.cat([t + kind for t, kind in zip(tokens, self.kinds, strict=True)], dim=2)) + place
        else:
            fused = torch.cat([t + kind + place for t, kind in zip(tokens, self.kinds, strict=True)], dim=1)
        if self.config.pool == "token":
            fused = torch.cat([self.summary.expand(len(fused), -1, -1), fused], dim=1)
        for layer in self.fusion:
            fused = layer(fused)
        return self.classify(self.last(fused[:, 0]) if self.config.pool == "token" else self.last(fused).mean(dim=1)), parts

    def part_widths(self) -> dict[str, int]:
        """See `Inspector`."""
        found = {"generated": self.config.width} if "generated" in self.names else {}
        return found if self.title is None else {**found, "copy": self.title.width}

    def part_features(self, inputs: Inputs) -> dict[str, Tensor]:
        """See `Inspector`."""
        found = {}
        if "generated" in self.names:
            at = 0 if self.config.shared_trunk else self.names.index("generated")
            grid = self.reduce[at](self.trunks[at](self.normalised(inputs.pictures["generated"])))
            found["generated"] = grid.mean(dim=(2, 3))
        if self.title is not None:
            assert inputs.mask is not None
            found["copy"] = _mean_word(self._words(inputs), inputs.mask)
        return found

    def _words(self, inputs: Inputs) -> Tensor:
        assert self.title is not None and inputs.tokens is not None and inputs.mask is not None
        return self.title(inputs.tokens, inputs.mask)

    def _grids(self, inputs: Inputs) -> dict[str, Tensor]:
        pictures = [self.normalised(inputs.pictures[name]) for name in self.names]
        if self.config.shared_trunk:
            found = self.reduce[0](self.trunks[0](torch.cat(pictures))).chunk(len(pictures))
        else:
            found = tuple(reduce(trunk(p)) for p, trunk, reduce in zip(pictures, self.trunks, self.reduce, strict=True))
        return dict(zip(self.names, found, strict=True))


def _mean_word(words: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are there: float `[n, width]` of `[n, length, width]`."""
    there = mask[:, :, None].to(words.dtype)
    return (words * there).sum(dim=1) / there.sum(dim=1)


def places(height: int, width: int, channels: int) -> Tensor:
    """Sine-cosine positions of a grid (Vaswani et al. 2017), half of the channels for rows, half for columns.

    Returns:
        float32 `[height * width, channels]`, row by row.
    """
    frequency = torch.exp(-torch.arange(channels // 4) / (channels // 4) * 4.0)
    angles = [torch.arange(n, dtype=torch.float32)[:, None] * frequency for n in (height, width)]
    rows, columns = (torch.cat([a.sin(), a.cos()], dim=1) for a in angles)
    return torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=2).reshape(height * width, -1)


class SinglePicture(Inspector):
    """A baseline that sees the generated picture alone.

    Args:
        config: Its network.
        assets: As its `assets` gave them, from an artifact; None loads or builds what they hold.
    """

    def __init__(self, config: SingleConfig, assets: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        sizes = (assets or {}).get("net")
        self.net: ResNet | VisionTransformer = ResNet(config.trunk, sizes) if config.kind == "resnet" else VisionTransformer(config, sizes)
        self.classify = nn.Linear(self.net.width, len(LABELS))

    def assets(self) -> dict[str, Any]:
        """See `Inspector`."""
        return {"net": plain(self.net.net)}

    def judged(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Inspector`."""
        parts = self.part_features(inputs)
        return self.classify(parts["generated"]), parts

    def part_widths(self) -> dict[str, int]:
        """See `Inspector`."""
        return {"generated": self.net.width}

    def part_features(self, inputs: Inputs) -> dict[str, Tensor]:
        """See `Inspector`."""
        features = self.net(self.normalised(inputs.pictures["generated"]))
        return {"generated": features.mean(dim=(2, 3)) if features.ndim == 4 else features}


def build(config: ModelConfig, assets: dict[str, Any] | None = None) -> Inspector:
    """The network of a config."""
    return RFNet(config, assets) if isinstance(config, RFNetConfig) else SinglePicture(config, assets)
