"""Laying a product on an empty canvas, as the published generator does it (ZhenbangDu/Reliable_AD, `utils/utils.py`)."""

from __future__ import annotations

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from adray.config import Config
from adray.data.images import ImageRowError

_HALF = 128
"""Least alpha of a pixel that belongs to the product: the published threshold of 0.5."""
_FOOT = 1
"""Keeps what is drawn from a picture's seed here apart from its noise."""


class PlacementConfig(Config):
    """Where a product goes on its canvas."""

    size: int = Field(default=512, ge=8)
    """Width and height of the canvas in pixels; with `keep_loc` its shorter side."""
    image_scale: float = Field(default=0.7, gt=0, le=1)
    """The product is fitted into a centred box of this share of the canvas. Published: 0.70, 0.74 and 0.78."""
    matting: bool = False
    """A product that touches a border of its picture stays at that border: the picture is only resized."""
    keep_loc: bool = False
    """The product stays where its picture has it: the shorter side becomes `size`, both sides are rounded to `multiple`."""
    multiple: int | None = Field(default=None, ge=1)
    """`keep_loc`: sides are multiples of it, 64 for Stable Diffusion. Unset: pixels per latent cell x what the UNet halves."""
    foot: tuple[float, float] | None = None
    """Where the product's lowest row goes, as a share of the canvas' height: a range from which every picture draws its own, so that
    a product that no scene can hold up at one place is tried at another. Not published; unset leaves products where they are."""

    @model_validator(mode="after")
    def _consistent(self) -> PlacementConfig:
        if self.foot is not None and not 0 < self.foot[0] <= self.foot[1] <= 1:
            raise ValueError(f"foot is {list(self.foot)}; give two shares above 0 and up to 1, the lower first")
        if self.foot is not None and self.matting:
            raise ValueError("foot moves products and matting keeps them at their borders; set one of them")
        return self


def place(pixels: np.ndarray, config: PlacementConfig) -> np.ndarray:
    """Lay a product on a canvas.

    The product is what lies in the bounding box of alpha above 0.5; it keeps its aspect within a pixel. Where alpha is 0, the
    colour is 0 too. How `matting` lays a picture that is not square is not published; here its whole fits the canvas and
    the borders that the product touches stay borders.

    Args:
        pixels: uint8 `[h, w, 4]` with straight alpha, or `[h, w, 3]`: exact white is then the background.
        config: The rules. An unset `multiple` counts as 1 here.

    Returns:
        uint8 `[side, side, 4]`; with `keep_loc` `[height, width, 4]`.

    Raises:
        ImageRowError: If there is no product, no background, or nothing left to paint.
    """
    product = _cleared(with_alpha(pixels))
    box = bounding_box(product[..., 3])
    if config.keep_loc:
        canvas = _resized(product, *_rounded_sides(product.shape[0], product.shape[1], config.size, config.multiple or 1))
    elif config.matting and any(_touching(box, product.shape)):
        canvas = _at_borders(product, box, config.size)
    else:
        left, top, right, bottom = box
        canvas = _centred(product[top:bottom, left:right], config.size, config.image_scale)
    if canvas[..., 3].min() == 255:
        raise ImageRowError("the product covers the whole canvas, so that nothing is left to paint", "")
    bounding_box(canvas[..., 3])
    return canvas


def stand(canvas: np.ndarray, config: PlacementConfig, seed: int) -> np.ndarray:
    """Move a placed product up or down to where `foot` wants it; without `foot` it stays.

    Args:
        canvas: uint8 `[h, w, 4]`, as `place` gave it.
        config: The rules.
        seed: Of the picture: equal seeds stand at equal heights.

    Returns:
        uint8 `[h, w, 4]` with the very pixels of the product; nothing of it leaves the canvas.
    """
    if config.foot is None:
        return canvas
    rows = np.flatnonzero(canvas[..., 3].any(axis=1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    wanted = round(np.random.default_rng([seed, _FOOT]).uniform(*config.foot) * canvas.shape[0])
    return np.roll(canvas, max(wanted, bottom - top) - bottom, axis=0)


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    """The picture with an alpha channel: uint8 `[h, w, 4]`. Without one, exact white becomes the background.

    Raises:
        ImageRowError: If it has neither alpha nor a white pixel.
    """
    if pixels.shape[2] == 4:
        return pixels
    white = (pixels == 255).all(axis=2)
    if not white.any():
        raise ImageRowError("no alpha channel and no white background", "")
    return np.dstack([pixels, np.where(white, 0, 255).astype(np.uint8)])


def bounding_box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the latter two exclusive) of alpha above 0.5, uint8 `[h, w]`.

    Raises:
        ImageRowError: If alpha is nowhere above 0.5.
    """
    inside = alpha >= _HALF
    if not inside.any():
        most = int(alpha.max(initial=0))
        found = "is 0 everywhere" if most == 0 else f"is at most {most} of 255, nowhere above 0.5"
        raise ImageRowError(f"the product is empty: alpha {found}", "")
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _cleared(product: np.ndarray) -> np.ndarray:
    """Without the colours that alpha 0 hides."""
    return np.where(product[..., 3:] == 0, np.uint8(0), product)


def _touching(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[bool, bool, bool, bool]:
    """Whether a box touches the left, top, right and bottom border of a picture `[h, w, ...]`."""
    left, top, right, bottom = box
    return left == 0, top == 0, right == shape[1], bottom == shape[0]


def _rounded_sides(height: int, width: int, size: int, multiple: int) -> tuple[int, int]:
    scale = size / min(height, width)
    rounded = [max(1, round(side * scale / multiple)) * multiple for side in (height, width)]
    return rounded[0], rounded[1]


def _resized(product: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scaled with colours weighted by alpha, so that hidden ones do not bleed in; the very pixels where nothing is scaled."""
    if product.shape[:2] == (height, width):
        return product
    image = Image.fromarray(product).convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    return _cleared(np.asarray(image.convert("RGBA")))


def _fitted(product: np.ndarray, side: int) -> np.ndarray:
    """Scaled so that the longer side is `side`."""
    height, width = product.shape[:2]
    scale = side / max(height, width)
    return _resized(product, max(1, round(height * scale)), max(1, round(width * scale)))


def _laid(product: np.ndarray, left: int, top: int, size: int) -> np.ndarray:
    canvas = np.zeros((size, size, 4), np.uint8)
    canvas[top : top + product.shape[0], left : left + product.shape[1]] = product
    return canvas


def _centred(product: np.ndarray, size: int, image_scale: float) -> np.ndarray:
    fitted = _fitted(product, max(1, round(size * image_scale)))
    return _laid(fitted, (size - fitted.shape[1]) // 2, (size - fitted.shape[0]) // 2, size)


def _at_borders(product: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    left, top, right, bottom = _touching(box, product.shape)
    fitted = _fitted(product, size)
    across, down = size - fitted.shape[1], size - fitted.shape[0]
    return _laid(fitted, _start(across, left, right), _start(down, top, bottom), size)


def _start(room: int, first: bool, last: bool) -> int:
    """Where a side begins on a canvas that has `room` pixels more: at the border it touches, centred where it touches both or none."""
    if first == last:
        return room // 2
    return 0 if first else room
