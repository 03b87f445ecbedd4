"""Product cut-outs as shops deliver them, odd ones first: thin, at a border, never opaque, of every kind of file."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

CREAM = (250, 244, 230)
"""A colour that is hidden under alpha 0: it must not show anywhere."""


def drawn(width: int, height: int, box: tuple[int, int, int, int], alpha: int = 255, soft: int = 0) -> np.ndarray:
    """A patterned rectangle on a transparent canvas.

    Args:
        width: Of the canvas.
        height: Of the canvas.
        box: Left, top, right, bottom of the product.
        alpha: Of its inside.
        soft: Width in pixels of a band along its edge over which alpha falls off.

    Returns:
        uint8 `[height, width, 4]`.
    """
    canvas = np.zeros((height, width, 4), np.uint8)
    canvas[..., :3] = CREAM
    left, top, right, bottom = box
    rows, columns = np.mgrid[0 : bottom - top, 0 : right - left]
    pattern = np.stack([rows * 7 % 256, columns * 5 % 256, (rows // 9 + columns // 9) % 2 * 160], axis=2)
    canvas[top:bottom, left:right, :3] = pattern
    canvas[top:bottom, left:right, 3] = alpha
    if soft:
        edge = np.minimum.reduce([rows, rows[::-1], columns, columns[:, ::-1]])
        canvas[top:bottom, left:right, 3] = np.where(edge < soft, alpha * (edge + 1) // (soft + 1), alpha)
    return canvas


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: object) -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, row step and column step of an interlaced PNG's seven passes."""


def rgba_png(pixels: np.ndarray, *, interlaced: bool = False) -> bytes:
    """A PNG of uint8 or uint16 `[h, w, 4]`, written by hand: Pillow writes neither interlaced files nor 16 bits with alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    wide = pixels.astype(pixels.dtype.newbyteorder(">"))
    lines = [b"\0" + line.tobytes() for top, left, down, across in passes for line in wide[top::down, left::across] if line.size]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8 * pixels.itemsize, 6, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")


@cache
def edge_cutouts() -> dict[str, bytes]:
    """Files that all hold a usable product, by what is odd about them."""
    plain = drawn(120, 100, (30, 20, 90, 80))
    on_white = np.where(plain[..., 3:] > 0, plain[..., :3], 255).astype(np.uint8)
    palette = Image.fromarray(on_white).quantize(32)
    palette.info["transparency"] = palette.getpixel((0, 0))
    grey = np.dstack([plain[..., 0], plain[..., 3]])
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "plain": encoded(plain),
        "thin": encoded(drawn(400, 800, (120, 30, 270, 760))),
        "near full width": encoded(drawn(200, 160, (1, 60, 199, 110))),
        "touching the top": encoded(drawn(120, 120, (40, 0, 80, 70))),
        "touching top and bottom": encoded(drawn(120, 160, (40, 0, 80, 160))),
        "touching the left": encoded(drawn(160, 120, (0, 40, 60, 100))),
        "alpha at most 254": encoded(drawn(120, 100, (30, 20, 90, 80), alpha=254)),
        "alpha almost never 255": encoded(drawn(120, 100, (30, 20, 90, 80), soft=29)),
        "palette with transparency": encoded(palette, transparency=palette.info["transparency"]),
        "interlaced": rgba_png(plain, interlaced=True),
        "16 bits, with alpha": rgba_png(plain.astype(np.uint16) * 257),
        "grey with alpha": encoded(Image.fromarray(grey, "LA")),
        "16 bits, grey on white": encoded(Image.fromarray(np.where(plain[..., 3] > 0, plain[..., 0] * 200, 65535).astype(np.uint16))),
        "turned by its camera": encoded(plain, exif=turned),
        "CMYK on white": encoded(Image.fromarray(on_white).convert("CMYK"), "TIFF"),
        "no alpha, on white": encoded(on_white),
        "WebP": encoded(plain, "WEBP", lossless=True, exact=True),
    }
