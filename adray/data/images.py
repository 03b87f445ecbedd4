"""Pictures: encoded bytes to arrays, fast for JPEG, complete for everything else."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from adray.errors import DataError

MAX_PIXELS = 64 * 2**20
"""Larger pictures are refused before they are decoded: a small file can claim to be huge."""

_ORIENTATION = 0x0112
_JPEG = b"\xff\xd8\xff"


class ImageRowError(DataError):
    """A row's picture cannot be decoded."""


def decode_image(data: bytes, *, at_least: int | None = None) -> np.ndarray:
    """Decode JPEG, PNG, WebP, GIF, BMP or TIFF.

    Camera orientation (EXIF) is applied. Palettes are resolved, transparency kept, 16-bit channels brought to 8, CMYK and
    greyscale made RGB. Of an animation the first frame is taken.

    Args:
        data: The encoded picture.
        at_least: Shorter side wanted, in pixels. JPEGs are then decoded at 1/2, 1/4 or 1/8 scale where that is still at
            least as large, which saves most of the time for thumbnails.

    Returns:
        uint8 `[height, width, 3]` (RGB), or `[height, width, 4]` (RGBA, straight alpha) where the picture has transparency.

    Raises:
        ImageRowError: If the bytes are no picture, are cut short, or describe more than `MAX_PIXELS` pixels.
    """
    if not data:
        raise ImageRowError("the picture has no bytes", "")
    if data.startswith(_JPEG) and b"Exif" not in data[:4096]:
        try:
            return _decode_jpeg(data, at_least)
        except ValueError:
            # CMYK and some old encoders; Pillow decides whether the file is really broken.
            pass
    return _decode_any(data)


def _decode_jpeg(data: bytes, at_least: int | None) -> np.ndarray:
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height)
    side = 0 if at_least is None else at_least
    return simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=side, min_width=side)


def _decode_any(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            _check_size(*opened.size)
            opened.load()
            picture: Image.Image = opened
            if opened.getexif().get(_ORIENTATION, 1) != 1:
                picture = ImageOps.exif_transpose(opened)
            return _to_array(picture)
    except ImageRowError:
        raise
    except Image.DecompressionBombError:
        # Pillow's own guard, which may come before ours and then hides the sizes.
        raise ImageRowError(f"the picture has too many pixels, more than {MAX_PIXELS}", "") from None
    except UnidentifiedImageError:
        raise ImageRowError(f"{len(data)} bytes that are no known picture format", "") from None
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damaged input.
    except Exception as error:
        raise ImageRowError(f"the picture cannot be decoded: {error}", "") from None


def _to_array(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):
        wide = np.asarray(picture).astype(np.int64)
        grey = (wide >> 8 if wide.max(initial=0) > 255 else wide).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    return np.array(picture.convert("RGBA" if transparent else "RGB"))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageRowError(f"the picture has {width} x {height} pixels, more than {MAX_PIXELS}", "")
