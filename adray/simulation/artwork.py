"""Product cut-outs drawn as vector shapes, one drawing per category."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""left, top, right, bottom as shares of the canvas, in [0, 1]."""

SUPERSAMPLING = 4
"""Shapes are drawn this much larger and then reduced, which smooths their edges."""
_WHITE: Colour = (250, 250, 250)
_DARK: Colour = (38, 40, 46)
_GREY: Colour = (150, 154, 162)


class Pen:
    """Draws on a canvas in coordinates of [0, 1]."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._size = image.width

    def box(self, box: Box, fill: Colour, radius: float = 0.0) -> None:
        """A filled rectangle with rounded corners."""
        self._draw.rounded_rectangle(self._scale(box), radius * self._size, fill=fill)

    def oval(self, box: Box, fill: Colour) -> None:
        """A filled ellipse."""
        self._draw.ellipse(self._scale(box), fill=fill)

    def shape(self, points: Sequence[tuple[float, float]], fill: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * self._size, y * self._size) for x, y in points], fill=fill)

    def line(self, points: Sequence[tuple[float, float]], fill: Colour, width: float) -> None:
        """A thick line through the points."""
        scaled = [(x * self._size, y * self._size) for x, y in points]
        self._draw.line(scaled, fill=fill, width=max(1, round(width * self._size)), joint="curve")

    def arc(self, box: Box, start: float, end: float, fill: Colour, width: float) -> None:
        """Part of an ellipse's outline; degrees clockwise from 3 o'clock."""
        self._draw.arc(self._scale(box), start, end, fill=fill, width=max(1, round(width * self._size)))

    def _scale(self, box: Box) -> list[float]:
        return [value * self._size for value in box]


@dataclass(frozen=True)
class Look:
    """How one product of a category differs from another.

    Attributes:
        main: Colour of the body.
        accent: Colour of the details.
        shape: Proportions, in [-1, 1].
    """

    main: Colour
    accent: Colour
    shape: float

    @property
    def shade(self) -> Colour:
        """The main colour, darker."""
        red, green, blue = self.main
        return (red * 2 // 3, green * 2 // 3, blue * 2 // 3)


def _shoes(pen: Pen, look: Look) -> None:
    top = 0.3 + 0.05 * look.shape
    pen.shape([(0.1, top), (0.36, top), (0.46, 0.48), (0.72, 0.58), (0.92, 0.64), (0.94, 0.74), (0.08, 0.74)], look.main)
    pen.shape([(0.1, top), (0.2, top), (0.22, 0.74), (0.08, 0.74)], look.shade)
    pen.shape([(0.3, 0.74), (0.5, 0.52), (0.6, 0.56), (0.44, 0.74)], look.accent)
    for x in (0.4, 0.47, 0.54):
        pen.line([(x - 0.06, x + 0.09), (x + 0.03, x + 0.03)], _WHITE, 0.022)
    pen.box((0.06, 0.73, 0.95, 0.82), _WHITE, 0.04)
    pen.box((0.06, 0.78, 0.95, 0.82), look.accent, 0.02)


def _kettle(pen: Pen, look: Look) -> None:
    wide = 0.03 * look.shape
    pen.arc((0.22, 0.12, 0.78, 0.7), 180, 360, _DARK, 0.06)
    pen.shape([(0.7, 0.52), (0.94, 0.36), (0.97, 0.42), (0.76, 0.72)], look.shade)
    pen.shape([(0.3 - wide, 0.38), (0.7 + wide, 0.38), (0.8 + wide, 0.86), (0.2 - wide, 0.86)], look.main)
    pen.box((0.3 - wide, 0.33, 0.7 + wide, 0.41), look.accent, 0.03)
    pen.oval((0.46, 0.25, 0.54, 0.34), _DARK)
    pen.box((0.2 - wide, 0.82, 0.8 + wide, 0.89), _DARK, 0.02)
    pen.line([(0.32, 0.46), (0.27, 0.78)], _WHITE, 0.03)


def _headphones(pen: Pen, look: Look) -> None:
    pen.arc((0.16, 0.12, 0.84, 0.98), 180, 360, _DARK, 0.07)
    pen.arc((0.2, 0.16, 0.8, 0.98), 200, 340, look.accent, 0.03)
    cup = 0.2 + 0.03 * look.shape
    pen.box((0.1, 0.5, 0.1 + cup, 0.86), look.main, 0.09)
    pen.box((0.9 - cup, 0.5, 0.9, 0.86), look.main, 0.09)
    pen.box((0.08 + cup, 0.53, 0.15 + cup, 0.83), _DARK, 0.03)
    pen.box((0.85 - cup, 0.53, 0.92 - cup, 0.83), _DARK, 0.03)
    pen.oval((0.14, 0.6, 0.24, 0.74), look.accent)
    pen.oval((0.76, 0.6, 0.86, 0.74), look.accent)


def _phone(pen: Pen, look: Look) -> None:
    half = 0.2 + 0.02 * look.shape
    left, right = 0.5 - half, 0.5 + half
    pen.box((left, 0.08, right, 0.94), _DARK, 0.07)
    pen.box((left + 0.025, 0.12, right - 0.025, 0.9), look.main, 0.04)
    pen.shape([(left + 0.025, 0.55), (right - 0.025, 0.32), (right - 0.025, 0.86), (left + 0.025, 0.86)], look.accent)
    pen.box((0.44, 0.135, 0.56, 0.165), _DARK, 0.015)
    for row in range(2):
        for column in range(3):
            x = left + 0.07 + column * (2 * half - 0.14) / 3
            pen.box((x, 0.62 + row * 0.12, x + 0.07, 0.69 + row * 0.12), _WHITE, 0.015)


def _mug(pen: Pen, look: Look) -> None:
    top = 0.26 - 0.05 * look.shape
    pen.arc((0.58, 0.36, 0.92, 0.74), 250, 470, look.shade, 0.07)
    pen.box((0.16, top, 0.7, 0.86), look.main, 0.07)
    pen.oval((0.16, top - 0.07, 0.7, top + 0.07), look.shade)
    pen.oval((0.2, top - 0.04, 0.66, top + 0.05), (92, 58, 36))
    pen.box((0.16, 0.56, 0.7, 0.66), look.accent)
    pen.line([(0.24, 0.4), (0.24, 0.52)], _WHITE, 0.03)


def _backpack(pen: Pen, look: Look) -> None:
    pen.arc((0.36, 0.04, 0.64, 0.28), 180, 360, _DARK, 0.05)
    side = 0.2 - 0.03 * look.shape
    pen.box((side - 0.06, 0.44, 1.06 - side, 0.82), look.shade, 0.06)
    pen.box((side, 0.14, 1 - side, 0.92), look.main, 0.16)
    pen.box((side + 0.07, 0.54, 0.93 - side, 0.84), look.accent, 0.05)
    pen.line([(side + 0.07, 0.62), (0.93 - side, 0.62)], _DARK, 0.02)
    pen.line([(side + 0.05, 0.4), (0.95 - side, 0.4)], _DARK, 0.025)
    pen.box((0.47, 0.4, 0.53, 0.5), _WHITE, 0.02)


def _lamp(pen: Pen, look: Look) -> None:
    tilt = 0.04 * look.shape
    pen.box((0.3, 0.84, 0.74, 0.92), _DARK, 0.03)
    pen.line([(0.52, 0.86), (0.66, 0.56), (0.44, 0.3)], _GREY, 0.04)
    pen.oval((0.62, 0.52, 0.7, 0.6), look.accent)
    pen.shape([(0.12, 0.52 + tilt), (0.5, 0.5 - tilt), (0.6, 0.52)], (255, 236, 150))
    pen.shape([(0.34, 0.12), (0.52, 0.2), (0.56, 0.44 - tilt), (0.1, 0.48 + tilt)], look.main)
    pen.line([(0.1, 0.48 + tilt), (0.56, 0.44 - tilt)], look.accent, 0.03)


def _watch(pen: Pen, look: Look) -> None:
    strap = 0.12 + 0.02 * look.shape
    pen.box((0.5 - strap, 0.04, 0.5 + strap, 0.96), look.main, 0.05)
    for y in (0.1, 0.17, 0.8, 0.87):
        pen.line([(0.5 - strap, y), (0.5 + strap, y)], look.shade, 0.015)
    pen.oval((0.22, 0.22, 0.78, 0.78), _DARK)
    pen.oval((0.26, 0.26, 0.74, 0.74), _WHITE)
    pen.box((0.77, 0.46, 0.83, 0.54), _DARK, 0.02)
    for a, b in (((0.5, 0.28), (0.5, 0.33)), ((0.5, 0.67), (0.5, 0.72)), ((0.28, 0.5), (0.33, 0.5)), ((0.67, 0.5), (0.72, 0.5))):
        pen.line([a, b], look.accent, 0.03)
    pen.line([(0.5, 0.34), (0.5, 0.5), (0.62, 0.56)], _DARK, 0.035)


def _shirt(pen: Pen, look: Look) -> None:
    hem = 0.88 + 0.04 * look.shape
    right = [(0.66, 0.14), (0.95, 0.32), (0.85, 0.5), (0.73, 0.43), (0.73, hem)]
    outline = right + [(1.0 - x, y) for x, y in reversed(right)]
    pen.shape(outline, look.main)
    pen.oval((0.38, 0.06, 0.62, 0.24), look.shade)
    pen.box((0.27, 0.5, 0.73, 0.6), look.accent)
    pen.box((0.27, 0.64, 0.73, 0.68), look.accent)


def _bottle(pen: Pen, look: Look) -> None:
    half = 0.15 + 0.03 * look.shape
    pen.box((0.43, 0.06, 0.57, 0.18), _DARK, 0.03)
    pen.shape([(0.44, 0.16), (0.56, 0.16), (0.5 + half, 0.36), (0.5 - half, 0.36)], look.shade)
    pen.box((0.5 - half, 0.33, 0.5 + half, 0.95), look.main, 0.05)
    pen.box((0.5 - half, 0.5, 0.5 + half, 0.74), look.accent)
    pen.oval((0.44, 0.56, 0.56, 0.68), _WHITE)
    pen.line([(0.54 - half, 0.4), (0.54 - half, 0.48)], _WHITE, 0.025)


def _chair(pen: Pen, look: Look) -> None:
    lean = 0.03 * look.shape
    for x in (0.28, 0.72):
        pen.line([(x, 0.6), (x + (x - 0.5) * 0.3, 0.94)], _DARK, 0.04)
    for x in (0.38, 0.62):
        pen.line([(x, 0.6), (x, 0.86)], _GREY, 0.035)
    pen.box((0.26 + lean, 0.08, 0.74 - lean, 0.54), look.main, 0.1)
    pen.box((0.34, 0.16, 0.66, 0.44), look.accent, 0.06)
    pen.box((0.2, 0.52, 0.8, 0.66), look.shade, 0.06)


def _camera(pen: Pen, look: Look) -> None:
    top = 0.3 + 0.03 * look.shape
    pen.shape([(0.36, top), (0.42, 0.2), (0.62, 0.2), (0.68, top)], look.shade)
    pen.box((0.14, top - 0.05, 0.26, top + 0.05), _DARK, 0.02)
    pen.box((0.06, top, 0.94, 0.82), look.main, 0.06)
    pen.box((0.06, 0.46, 0.94, 0.7), _DARK)
    pen.oval((0.29, 0.34, 0.75, 0.8), _GREY)
    pen.oval((0.33, 0.38, 0.71, 0.76), _DARK)
    pen.oval((0.4, 0.45, 0.64, 0.69), look.accent)
    pen.oval((0.44, 0.48, 0.52, 0.56), _WHITE)
    pen.oval((0.8, top + 0.04, 0.88, top + 0.12), _WHITE)


_DRAWINGS: dict[str, Callable[[Pen, Look], None]] = {
    "shoes": _shoes,
    "kettle": _kettle,
    "headphones": _headphones,
    "phone": _phone,
    "mug": _mug,
    "backpack": _backpack,
    "lamp": _lamp,
    "watch": _watch,
    "shirt": _shirt,
    "bottle": _bottle,
    "chair": _chair,
    "camera": _camera,
}


def draw_cutout(category: str, look: Look, size: int) -> Image.Image:
    """Draw a product on a transparent ground.

    Args:
        category: A category's name.
        look: Colours and proportions.
        size: Width and height in pixels.

    Returns:
        An RGBA image.
    """
    canvas = Image.new("RGBA", (size * SUPERSAMPLING, size * SUPERSAMPLING), (*look.main, 0))
    _DRAWINGS[category](Pen(canvas), look)
    return canvas.resize((size, size), Image.Resampling.LANCZOS)
