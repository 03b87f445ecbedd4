"""Rendering one creative: background, product, texts and badge composed by a layout.

Knows nothing of worlds: whoever has a cut-out and texts can render with it. Shapes are drawn larger and reduced; text is
drawn at its final size, where hinting keeps small letters legible.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from adray.simulation.artwork import SUPERSAMPLING, Box, Colour
from adray.simulation.backdrops import DARK_BACKDROPS, backdrop

Pixels = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""

BADGE_COLOURS: dict[str, Colour] = {
    "SALE": (214, 40, 57),
    "NEW": (28, 110, 214),
    "HOT": (240, 112, 16),
    "ECO": (44, 140, 66),
    "TOP": (120, 62, 176),
}
_DEFAULT_BADGE: Colour = (60, 60, 66)
_INK: Colour = (28, 30, 36)
_PAPER: Colour = (255, 255, 255)
_PILL: Colour = (190, 28, 48)


@dataclass(frozen=True)
class Layout:
    """Where things go, as shares of the picture.

    Attributes:
        product: Box into which the cut-out is fitted.
        title: Box of the title.
        selling_point: Box of the selling point.
        badge: Box of the badge.
        title_lines: Most lines of the title.
    """

    product: Box
    title: Box
    selling_point: Box
    badge: Box
    title_lines: int


LAYOUTS = {
    "stacked": Layout((0.2, 0.03, 0.8, 0.63), (0.03, 0.65, 0.97, 0.81), (0.08, 0.83, 0.92, 0.98), (0.71, 0.02, 0.99, 0.3), 1),
    "left": Layout((0.01, 0.2, 0.49, 0.8), (0.48, 0.22, 0.99, 0.56), (0.48, 0.59, 0.99, 0.88), (0.02, 0.02, 0.3, 0.3), 2),
    "right": Layout((0.51, 0.2, 0.99, 0.8), (0.01, 0.22, 0.52, 0.56), (0.01, 0.59, 0.52, 0.88), (0.7, 0.02, 0.98, 0.3), 2),
    "hero": Layout((0.12, 0.12, 0.88, 0.88), (0.0, 0.0, 1.0, 0.17), (0.0, 0.84, 1.0, 1.0), (0.02, 0.53, 0.3, 0.81), 1),
}


@dataclass(frozen=True)
class Design:
    """What a creative shows.

    Attributes:
        background: A background element.
        layout: A key of `LAYOUTS`.
        title: The title's text.
        selling_point: The selling point's text.
        badge: The badge's text; empty for none.
        cutout: The product, RGBA.
    """

    background: str
    layout: str
    title: str
    selling_point: str
    badge: str
    cutout: Image.Image


@dataclass(frozen=True)
class Rendered:
    """A rendered creative.

    Attributes:
        image: RGB.
        boxes: Where each part ended up: `product`, `title`, `selling_point`, `badge` (when there is one).
    """

    image: Image.Image
    boxes: dict[str, Pixels] = field(default_factory=dict)


def render(design: Design, size: int) -> Rendered:
    """Render a creative.

    Args:
        design: What it shows.
        size: Width and height in pixels.
    """
    layout = LAYOUTS[design.layout]
    image = backdrop(design.background, size).copy()
    dark = design.background in DARK_BACKDROPS
    boxes = {"product": paste_product(image, design.cutout, to_pixels(layout.product, size))}
    ink, paper = (_PAPER, _INK) if dark else (_INK, _PAPER)
    boxes["title"] = draw_panel(image, to_pixels(layout.title, size), paper, 0.82)
    draw_text(image, boxes["title"], design.title, ink, lines=layout.title_lines)
    boxes["selling_point"] = draw_panel(image, to_pixels(layout.selling_point, size), _PILL, 0.95)
    draw_text(image, boxes["selling_point"], design.selling_point, _PAPER, lines=layout.title_lines)
    if design.badge:
        boxes["badge"] = draw_badge(image, to_pixels(layout.badge, size), design.badge)
    return Rendered(image, boxes)


def to_pixels(box: Box, size: int) -> Pixels:
    """Shares of the picture to whole pixels."""
    left, top, right, bottom = (round(value * size) for value in box)
    return left, top, right, bottom


def paste_product(image: Image.Image, cutout: Image.Image, box: Pixels) -> Pixels:
    """Fit a cut-out into a box, above a soft shadow; returns the pixels it covers."""
    left, top, right, bottom = box
    side = min(right - left, bottom - top)
    product = cutout if cutout.width == side else cutout.resize((side, side), Image.Resampling.LANCZOS)
    x, y = left + (right - left - side) // 2, top + (bottom - top - side) // 2
    shadow = Image.new("L", image.size, 0)
    ImageDraw.Draw(shadow).ellipse((x + side * 0.1, y + side * 0.86, x + side * 0.9, y + side * 1.0), fill=90)
    image.paste((0, 0, 0), (0, 0), shadow.filter(ImageFilter.BoxBlur(max(1, side // 24))))
    image.paste(product, (x, y), product)
    return x, y, x + side, y + side


def draw_panel(image: Image.Image, box: Pixels, colour: Colour, opacity: float) -> Pixels:
    """A rounded panel that keeps text apart from what lies under it."""
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((box[0], box[1], box[2] - 1, box[3] - 1), image.width // 24, fill=round(255 * opacity))
    image.paste(colour, (0, 0), mask)
    return box


def draw_badge(image: Image.Image, box: Pixels, text: str) -> Pixels:
    """A round badge with a short text."""
    image.paste(BADGE_COLOURS.get(text, _DEFAULT_BADGE), (box[0], box[1]), _disc(box[2] - box[0]))
    draw_text(image, box, text, _PAPER, lines=1)
    return box


@lru_cache(maxsize=16)
def _disc(side: int) -> Image.Image:
    large = side * SUPERSAMPLING
    disc = Image.new("L", (large, large), 0)
    ImageDraw.Draw(disc).ellipse((0, 0, large - 1, large - 1), fill=255)
    return disc.resize((side, side), Image.Resampling.LANCZOS)


def draw_text(image: Image.Image, box: Pixels, text: str, colour: Colour, lines: int) -> None:
    """Centre text in a box, in the largest font that fits on at most `lines` lines."""
    draw = ImageDraw.Draw(image)
    width, height = box[2] - box[0] - 4, box[3] - box[1]
    for size in range(max(7, image.width // 8), 5, -1):
        rows = wrap(text, size, width, lines)
        if rows is not None and len(rows) * (size + 1) <= height + 2:
            break
    else:
        size, rows = 6, [text]
    top = (box[1] + box[3]) / 2 - (len(rows) - 1) * (size + 1) / 2
    for number, row in enumerate(rows):
        draw.text(((box[0] + box[2]) / 2, top + number * (size + 1)), row, font=font(size), fill=colour, anchor="mm")


def wrap(text: str, size: int, width: int, lines: int) -> list[str] | None:
    """Break text at spaces into at most `lines` lines of at most `width` pixels; None when it does not fit."""
    rows: list[str] = []
    for word in text.split():
        longer = f"{rows[-1]} {word}" if rows else word
        if rows and text_width(longer, size) <= width:
            rows[-1] = longer
        else:
            rows.append(word)
        if text_width(rows[-1], size) > width or len(rows) > lines:
            return None
    return rows


@lru_cache(maxsize=1 << 14)
def text_width(text: str, size: int) -> float:
    """Width of one line in pixels; cached, because templates and nouns return in many creatives."""
    return float(font(size).getlength(text))


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Bold, which comes with matplotlib, so that pictures look the same on every machine."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"), size)


def encode(image: Image.Image, form: str) -> bytes:
    """Encode a picture as `jpeg`, `webp` or `png`; the same pixels give the same bytes."""
    stream = io.BytesIO()
    if form == "png":
        image.save(stream, "PNG", compress_level=6)
    elif form == "webp":
        image.save(stream, "WEBP", quality=88, method=2)
    else:
        # Full chroma: subsampling would smear the small coloured texts.
        image.save(stream, "JPEG", quality=88, subsampling=0)
    return stream.getvalue()
