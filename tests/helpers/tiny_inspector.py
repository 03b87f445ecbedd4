"""A small RFNet of random weights with the embedded maps."""

from __future__ import annotations

import torch

from adray.feedback.artifact import LoadedInspector, export_inspector, load_inspector
from adray.feedback.config import MapsConfig, RFNetConfig, TextConfig, TrunkConfig
from adray.feedback.rfnet import build

MODEL = RFNetConfig(
    image_size=32,
    width=16,
    heads=2,
    trunk=TrunkConfig(stem=8, widths=[8, 16], depths=[1, 1]),
    text=TextConfig(vocabulary=64, width=16, heads=2),
)


def tiny_inspector(folder, seed: int = 0) -> LoadedInspector:
    """Exported into `folder` and loaded from it."""
    torch.manual_seed(seed)
    export_inspector(folder, build(MODEL), MODEL, MapsConfig())
    return load_inspector(folder)
