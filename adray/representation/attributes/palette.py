"""Sixteen colour names and the colours that bear them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from adray.representation.attributes.colour_space import ciede2000, rgb_to_lab

COMPLEX = "complex"
"""The name of a background without one dominant colour."""


@dataclass(frozen=True)
class PaletteColour:
    """A colour name.

    Attributes:
        name: In English, the value in tables.
        chinese: In Chinese.
        anchors: sRGB in hex, the first the name's best example; the others are lighter or darker ones of the same name.
    """

    name: str
    chinese: str
    anchors: tuple[str, ...]


PALETTE = (
    PaletteColour("white", "白色", ("ffffff",)),
    PaletteColour("light grey", "浅灰色", ("d3d3d3",)),
    PaletteColour("grey", "灰色", ("808080", "606060", "a8a8a8")),
    PaletteColour("black", "黑色", ("000000", "1c1c1c")),
    PaletteColour("red", "红色", ("e01b24", "a01018", "ff4040")),
    PaletteColour("pink", "粉色", ("ffb6c1", "ff69b4", "fde4ea")),
    PaletteColour("orange", "橙色", ("ff8c00", "ff7043", "ffb060")),
    PaletteColour("brown", "棕色", ("8b4513", "5c3a21", "a87848")),
    PaletteColour("beige", "米色", ("f5e6c8", "e0cfb0", "faf0e6")),
    PaletteColour("yellow", "黄色", ("ffdd00", "fff27a", "d4b000")),
    PaletteColour("green", "绿色", ("2e9e44", "98d890", "1b5e20", "7cb342", "d4f0ce")),
    PaletteColour("cyan", "青色", ("00c8c8", "008b8b", "a8e8e4")),
    PaletteColour("light blue", "浅蓝色", ("a9d3f5", "c8e6fa", "7fb8e8")),
    PaletteColour("blue", "蓝色", ("1e6fd9", "2030d0", "3a94c8")),
    PaletteColour("navy", "藏青色", ("14214f", "1c2a3a")),
    PaletteColour("purple", "紫色", ("7b2fa8", "b39ddb", "4a2a6a")),
)
"""The palette. Names are told apart by CIEDE2000 to the nearest anchor."""

NAMES = (*(colour.name for colour in PALETTE), COMPLEX)


@cache
def _anchors() -> tuple[np.ndarray, np.ndarray]:
    """CIELab of every anchor, `[a, 3]`, and the palette index of each, `[a]`."""
    codes = [code for colour in PALETTE for code in colour.anchors]
    rgb = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in codes], np.uint8)
    return rgb_to_lab(rgb), np.repeat(np.arange(len(PALETTE)), [len(colour.anchors) for colour in PALETTE])


def nearest_name(lab: np.ndarray) -> tuple[str, float]:
    """The palette's name for a colour.

    Args:
        lab: CIELab, float `[3]`.

    Returns:
        The name, and how clearly it is the nearest, in [0, 1]: 1 minus its distance over that of the next name.
    """
    anchors, owners = _anchors()
    distances = ciede2000(np.asarray(lab)[None], anchors)
    best = np.full(len(PALETTE), np.inf)
    np.minimum.at(best, owners, distances)
    first, second = np.argsort(best, kind="stable")[:2]
    margin = 1.0 - best[first] / max(best[second], 1e-9)
    return PALETTE[first].name, float(np.clip(margin, 0.0, 1.0))
