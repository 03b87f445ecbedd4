"""Cells of picture columns as pixels, and what makes a product's cut-out unusable."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from adray.data.images import ImageRowError, decode_image
from adray.data.storage import read_bytes
from adray.errors import DataError

OPAQUE = 128
"""Alpha from which a pixel belongs to the product: the threshold 0.5 of the published pipeline (Du et al., ECCV 2024)."""


def image_pixels(image: Mapping[str, Any] | None) -> np.ndarray:
    """Decode a cell of an image column.

    Args:
        image: `bytes`, or the `path` of a file; see `data.schema.IMAGE`.

    Returns:
        uint8 `[height, width, 3 or 4]`.

    Raises:
        DataError: If there is no picture or it cannot be decoded.
        OSError: If its file cannot be read.
    """
    if image is None or (image["bytes"] is None and image["path"] is None):
        raise ImageRowError("there is no picture", "")
    pixels = decode_image(image["bytes"] if image["bytes"] is not None else read_bytes(image["path"]))
    if 0 in pixels.shape[:2]:
        raise ImageRowError("the picture has no pixels", "")
    return pixels


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Transparency laid on white, which is what a page shows through it.

    Args:
        pixels: uint8 `[height, width, 3 or 4]`.

    Returns:
        uint8 `[height, width, 3]`.
    """
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[:, :, 3:].astype(np.uint16)
    # Exact division by 255 with rounding, as in integer compositing.
    return ((pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A picture as a PNG file: lossless, quickly rather than tightly packed.

    Args:
        pixels: uint8 `[height, width]`, or with 3 or 4 channels.
    """
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def cutout_problem(pixels: np.ndarray) -> str:
    """Why a decoded cut-out cannot be used; empty where it can.

    Args:
        pixels: uint8 `[height, width, 3 or 4]`.
    """
    if pixels.shape[2] != 4:
        return "it has no alpha channel"
    most = pixels[..., 3].max(initial=0)
    if most == 0:
        return "its alpha is 0 everywhere"
    return "" if most >= OPAQUE else f"the product is empty, no pixel has alpha {OPAQUE} or more"


def read_pair(image: Mapping[str, Any] | None, cutout: Mapping[str, Any] | None) -> tuple[np.ndarray, np.ndarray]:
    """A generated picture and its product's cut-out, which lies on a canvas of the picture's size.

    Returns:
        uint8 `[height, width, 3]` and uint8 `[height, width, 4]`.

    Raises:
        ImageRowError: If either cannot be used, with the reason in one line.
    """
    found = {}
    for name, cell in (("image", image), ("cutout", cutout)):
        try:
            found[name] = image_pixels(cell)
        except (DataError, OSError) as error:
            reason = error.problem if isinstance(error, DataError) else " ".join(str(error).split())
            raise ImageRowError(f"{name}: {reason}", "") from None
    problem = cutout_problem(found["cutout"])
    if not problem and found["cutout"].shape[:2] != found["image"].shape[:2]:
        sizes = ["x".join(map(str, found[name].shape[1::-1])) for name in ("cutout", "image")]
        problem = f"it is {sizes[0]}, the picture {sizes[1]}; it must lie on the picture's canvas"
    if problem:
        raise ImageRowError(f"cutout: {problem}", "")
    return on_white(found["image"]), found["cutout"]
