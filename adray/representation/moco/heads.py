"""Projector and predictor (MoCo v3's published shapes): linear layers without bias, a norm and ReLU between them."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["batch", "layer"]


def perceptron(widths: list[int], *, last_norm: bool, norm: Norm = "batch") -> nn.Sequential:
    """`Linear - norm - ReLU - ... - Linear [- norm without weights]`.

    Args:
        widths: Input, hidden and output widths.
        last_norm: End in a norm without trained weights.
        norm: `batch`, or `layer` for batches too small for statistics.
    """
    layers: list[nn.Module] = []
    for i, (width, out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers.append(nn.Linear(width, out, bias=False))
        if i + 2 < len(widths):
            layers += [_norm(out, norm, affine=True), nn.ReLU(inplace=True)]
        elif last_norm:
            layers.append(_norm(out, norm, affine=False))
    return nn.Sequential(*layers)


def _norm(width: int, norm: Norm, affine: bool) -> nn.Module:
    return nn.BatchNorm1d(width, affine=affine) if norm == "batch" else nn.LayerNorm(width, elementwise_affine=affine)


def projector(dim: int, hidden: int, out: int, layers: int, norm: Norm = "batch") -> nn.Sequential:
    """Two layers after a ResNet, three after a transformer; ends in a norm."""
    return perceptron([dim, *[hidden] * (layers - 1), out], last_norm=True, norm=norm)


def predictor(hidden: int, out: int, *, last_norm: bool, norm: Norm = "batch") -> nn.Sequential:
    """Two layers; ends in a norm after a transformer only."""
    return perceptron([out, hidden, out], last_norm=last_norm, norm=norm)
