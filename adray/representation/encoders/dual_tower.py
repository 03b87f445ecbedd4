"""The default encoder on a CPU: a pretrained picture tower beside a pretrained copy tower, joined by a trained projection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from tokenizers import Tokenizer
from torch import Tensor, nn

from adray.config import Config
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.towers import COPY_DIM, PICTURE_DIM, CopyTower, PictureTower, copy_assets, rows_with, square


class DualTowerConfig(Config):
    """EfficientNet-Lite0 for the picture, MiniLM-L6 for the copy."""

    kind: Literal["dual_tower"] = "dual_tower"
    """Two pretrained towers."""
    modalities: Literal["both", "image", "copy"] = "both"
    """What is read; the other tower is left out."""
    image_size: int = Field(default=224, ge=32, le=1024)
    """Side of the square that pictures are brought to, in pixels."""
    fit: Literal["whole", "crop"] = "whole"
    """`whole`: the picture is squeezed into the square, nothing is lost. `crop`: the middle square is cut out, shapes are kept."""
    max_tokens: int = Field(default=256, ge=8, le=512)
    """Longest copy; what is beyond is cut off."""
    image_weight: float = Field(default=1.0, gt=0)
    """Length of the picture's part of the vector."""
    copy_weight: float = Field(default=1.0, gt=0)
    """Length of the copy's part."""
    projection: int | None = Field(default=None, ge=1)
    """Hidden width of a residual projection per tower, to be trained; null: the towers as they are."""
    train_towers: bool = False
    """Train the towers too. Their BatchNorm statistics and dropout stay as in evaluation."""
    modality_dropout: float = Field(default=0.0, ge=0.0, le=0.5)
    """Training only: probability of hiding a row's picture, and likewise its copy; never both."""

    @model_validator(mode="after")
    def _drops_what_it_has(self) -> DualTowerConfig:
        if self.modality_dropout and self.modalities != "both":
            raise ValueError(f"modality_dropout needs modalities: both, not {self.modalities!r}")
        return self


class Residual(nn.Module):
    """A two-layer perceptron whose last layer starts at zero, so that adding it changes nothing before training.

    Args:
        features: Width of the input.
        hidden: Width between the layers.
        dim: Width of the output.
    """

    def __init__(self, features: int, hidden: int, dim: int) -> None:
        super().__init__()
        last = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, hidden), nn.GELU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """float `[m, features]` to float `[m, dim]`."""
        return self.layers(features)


class DualTower(Encoder):
    """Two towers: `pooled` is their weighted, L2-normalised features side by side, plus a trained residual of each.

    A row without a picture has zeros in the picture's part, and one without copy in the copy's.

    Args:
        config: Its config.
        assets: BERT sizes and tokenizer of the copy tower; empty without one.
        pretrained: Load the packages' weights.
    """

    def __init__(self, config: DualTowerConfig, assets: Mapping[str, Any], pretrained: bool) -> None:
        super().__init__()
        self._config, self._assets = config, dict(assets)
        self.picture = PictureTower(pretrained) if config.modalities != "copy" else None
        self.copy = CopyTower(assets["sizes"]) if config.modalities != "image" else None
        self._tokenizer = None
        if self.copy is not None:
            if pretrained:
                self.copy.load_pretrained()
            self._tokenizer = Tokenizer.from_str(json.dumps(assets["tokenizer"]))
            self._tokenizer.enable_truncation(config.max_tokens)
            self._tokenizer.enable_padding()
        widths = {"picture": PICTURE_DIM if self.picture else 0, "copy": COPY_DIM if self.copy else 0}
        self.dim = sum(widths.values())
        self._starts = {"picture": 0, "copy": widths["picture"]}
        hidden = config.projection
        self.projections = nn.ModuleDict({name: Residual(width, hidden, self.dim) for name, width in widths.items() if width and hidden})
        for tower in self._towers():
            tower.requires_grad_(config.train_towers)

    def _towers(self) -> list[nn.Module]:
        return [tower for tower in (self.picture, self.copy) if tower is not None]

    def train(self, mode: bool = True) -> DualTower:
        """Training mode for the projections; the towers stay in evaluation mode."""
        super().train(mode)
        for tower in self._towers():
            tower.eval()
        return self

    def prepare(self, creatives: Creatives) -> EncoderInputs:
        """Pictures as uint8 squares and copy as tokens, each only where there is one, with the rows they belong to."""
        tensors: dict[str, Tensor] = {}
        if self.picture is not None:
            rows, side, fit = rows_with(creatives.pictures), self._config.image_size, self._config.fit
            pictures = [square(picture, side, fit) for picture in creatives.pictures if picture is not None]
            tensors["pixels"] = torch.from_numpy(np.stack(pictures) if pictures else np.zeros((0, 3, side, side), np.uint8))
            tensors["picture_rows"] = torch.tensor(rows, dtype=torch.int64)
        if self._tokenizer is not None:
            rows = rows_with(creatives.copies)
            encoded = self._tokenizer.encode_batch([creatives.copies[i] for i in rows])
            length = len(encoded[0].ids) if encoded else 0
            tensors["tokens"] = torch.tensor([e.ids for e in encoded], dtype=torch.int64).reshape(len(rows), length)
            tensors["mask"] = torch.tensor([e.attention_mask for e in encoded], dtype=torch.int64).reshape(len(rows), length)
            tensors["copy_rows"] = torch.tensor(rows, dtype=torch.int64)
        return EncoderInputs(tensors, len(creatives))

    def pooled(self, inputs: EncoderInputs) -> Tensor:
        """Float32 `[n, dim]`; without a trained projection the weighted towers side by side."""
        tensors, parts = inputs.tensors, {}
        with torch.set_grad_enabled(self._config.train_towers and torch.is_grad_enabled()):
            if self.picture is not None:
                parts["picture"] = (tensors["picture_rows"], self._picture_features(tensors["pixels"]))
            if self.copy is not None:
                parts["copy"] = (tensors["copy_rows"], self._copy_features(tensors["tokens"], tensors["mask"]))
        device = next(self.parameters()).device
        result = torch.zeros(inputs.rows, self.dim, device=device)
        kept = self._kept(parts, inputs.rows, device)
        for name, (rows, features) in parts.items():
            stay = kept[name][rows]
            rows, features = rows[stay], features[stay]
            start = self._starts[name]
            placed = nn.functional.pad(features, (start, self.dim - start - features.shape[1]))
            if name in self.projections:
                placed = placed + self.projections[name](features).float()
            result = result.index_add(0, rows, placed)
        return result

    def _picture_features(self, pixels: Tensor) -> Tensor:
        assert self.picture is not None
        features = self.picture(pixels) if len(pixels) else pixels.new_zeros(0, PICTURE_DIM, dtype=torch.float32)
        return features * self._config.image_weight

    def _copy_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        assert self.copy is not None
        features = self.copy(tokens, mask) if len(tokens) else torch.zeros(0, COPY_DIM, device=tokens.device)
        return features * self._config.copy_weight

    def _kept(self, parts: Mapping[str, tuple[Tensor, Tensor]], rows: int, device: torch.device) -> dict[str, Tensor]:
        """Which rows keep each modality: all, but in training with modality dropout; a row's only one always stays."""
        has = {name: torch.zeros(rows, dtype=torch.bool, device=device).index_fill(0, r, True) for name, (r, _) in parts.items()}
        rate = self._config.modality_dropout
        if not (self.training and rate):
            return has
        draw, both = torch.rand(rows, device=device), has["picture"] & has["copy"]
        return {"picture": has["picture"] & ~(both & (draw < rate)), "copy": has["copy"] & ~(both & (draw >= 1 - rate))}

    def transform(self) -> Mapping[str, Any]:
        """Resizing, normalisation and tokenisation."""
        config = self._config
        values: dict[str, Any] = {"kind": config.kind, "modalities": config.modalities}
        if self.picture is not None:
            values |= {"image_size": config.image_size, "fit": config.fit, "resize": "bicubic", "mean": 127, "std": 128}
        if self.copy is not None:
            values |= {"max_tokens": config.max_tokens, "tokenizer": "minilm-l6 wordpiece", "pooling": "mean"}
        return values

    def assets(self) -> Mapping[str, Any]:
        """The copy tower's sizes and tokenizer."""
        return self._assets


def build_dual_tower(config: DualTowerConfig, assets: Mapping[str, Any] | None) -> DualTower:
    """Build the encoder.

    Args:
        config: Its config.
        assets: From an artifact, whose tensors will follow; None loads the packages' weights, but on the meta device.

    Raises:
        ResourceError: If a package is not installed.
    """
    if assets is not None:
        return DualTower(config, assets, pretrained=False)
    pretrained = torch.get_default_device().type != "meta"
    return DualTower(config, copy_assets() if config.modalities != "image" else {}, pretrained)
