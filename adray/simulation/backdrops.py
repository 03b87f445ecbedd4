"""Backgrounds of creatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from PIL import Image

from adray.simulation.artwork import SUPERSAMPLING, Colour, Pen

DARK_BACKDROPS = frozenset({"night"})
"""Backgrounds that want light text."""


def _gradient(size: int, top: Colour, bottom: Colour) -> Image.Image:
    column = Image.new("RGB", (1, size))
    for y in range(size):
        share = y / (size - 1)
        column.putpixel((0, y), tuple(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True)))
    return column.resize((size, size))


def _studio(size: int) -> Image.Image:
    return _gradient(size, (252, 252, 252), (222, 226, 232))


def _sunset(size: int) -> Image.Image:
    return _gradient(size, (255, 214, 130), (244, 118, 108))


def _ocean(size: int) -> Image.Image:
    image = _gradient(size, (196, 234, 250), (58, 148, 200))
    pen = Pen(image)
    for row, colour in enumerate(((120, 196, 230), (86, 172, 216), (44, 128, 184))):
        y = 0.6 + 0.13 * row
        waves = [(x / 24, y + 0.03 * math.sin(x * 1.1 + 2.0 * row)) for x in range(25)]
        pen.shape([*waves, (1.0, 1.0), (0.0, 1.0)], colour)
    return image


def _night(size: int) -> Image.Image:
    image = _gradient(size, (16, 20, 48), (62, 46, 104))
    pen = Pen(image)
    for star in range(26):
        # Low-discrepancy places: spread evenly, the same in every picture.
        x, y, radius = star * 0.754877 % 1.0, star * 0.569840 % 1.0, 0.006 + 0.004 * (star % 3)
        pen.oval((x - radius, y - radius, x + radius, y + radius), (250, 244, 200))
    return image


def _stripes(size: int) -> Image.Image:
    image = Image.new("RGB", (size, size), (250, 232, 236))
    pen = Pen(image)
    for stripe in range(-6, 8):
        x = stripe * 0.16
        pen.shape([(x, 1.0), (x + 0.08, 1.0), (x + 1.08, 0.0), (x + 1.0, 0.0)], (240, 182, 196))
    return image


def _confetti(size: int) -> Image.Image:
    image = Image.new("RGB", (size, size), (255, 250, 224))
    pen = Pen(image)
    colours: tuple[Colour, ...] = ((236, 84, 96), (64, 164, 224), (88, 190, 112), (246, 176, 46), (160, 102, 206))
    for piece in range(48):
        x, y, radius = piece * 0.754877 % 1.0, piece * 0.569840 % 1.0, 0.014 + 0.006 * (piece % 3)
        pen.oval((x - radius, y - radius, x + radius, y + radius), colours[piece % len(colours)])
    return image


def _shelf(size: int) -> Image.Image:
    image = _gradient(size, (240, 228, 210), (226, 208, 182))
    pen = Pen(image)
    pen.box((0.0, 0.68, 1.0, 1.0), (172, 120, 74))
    for y in (0.68, 0.79, 0.9):
        pen.line([(0.0, y), (1.0, y)], (132, 88, 52), 0.012)
    return image


def _rays(size: int) -> Image.Image:
    image = Image.new("RGB", (size, size), (212, 240, 206))
    pen = Pen(image)
    for ray in range(0, 24, 2):
        ends = [(0.5 + math.cos(math.pi * edge / 12), 0.45 + math.sin(math.pi * edge / 12)) for edge in (ray, ray + 1)]
        pen.shape([(0.5, 0.45), *ends], (160, 214, 150))
    return image


_BACKDROPS: dict[str, Callable[[int], Image.Image]] = {
    "studio": _studio,
    "sunset": _sunset,
    "ocean": _ocean,
    "night": _night,
    "stripes": _stripes,
    "confetti": _confetti,
    "shelf": _shelf,
    "rays": _rays,
}


@lru_cache(maxsize=64)
def backdrop(name: str, size: int) -> Image.Image:
    """A background as an RGB image; callers must copy it before drawing on it.

    Args:
        name: A background element.
        size: Width and height in pixels.
    """
    return _BACKDROPS[name](size * SUPERSAMPLING).resize((size, size), Image.Resampling.LANCZOS)
