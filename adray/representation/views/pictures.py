"""Two views of a batch of pictures, made where the batch lies."""

from __future__ import annotations

import torch
from torch import Tensor

from adray.representation.views.blur import gaussian_blur, recompress
from adray.representation.views.colour import greyscale, jitter, solarize, where
from adray.representation.views.config import AugmentationConfig
from adray.representation.views.geometry import crop_boxes, crop_resize, shifted_boxes
from adray.representation.views.keyed import Keyed

_PUBLISHED_SIZE = 224


def picture_view(pictures: Tensor, sizes: Tensor, random: Keyed, config: AugmentationConfig, view: int, size: int) -> Tensor:
    """One view of each picture: crop and resize, jitter, greyscale, blur, solarise, flip, recompress, in the published order.

    The pictures are squares that whole pictures were brought to; crops are drawn in the originals' geometry, so their aspect
    ratio is right although the squares' is not.

    Args:
        pictures: uint8 `[n, 3, side, side]`, RGB.
        sizes: int64 `[n, 2]`, height and width before they were made square.
        random: The pictures' random numbers for this view.
        config: Strengths and chances.
        view: 0 or 1, which of `config.views` holds.
        size: Side of the view, in pixels.

    Returns:
        float32 `[n, 3, size, size]` in [0, 1].
    """
    chances = config.views[view]
    boxes = crop_boxes(random, sizes, config.crop_scale, config.crop_ratio)
    if config.shift:
        boxes = shifted_boxes(random, boxes, config.shift)
    flip = random.happens("flip", config.flip) if config.flip else None
    # Mirroring commutes with everything but recompression's block grid, so it costs nothing when it is done while resizing.
    result = crop_resize(pictures.float() / 255, boxes, size, flip)
    result = jitter(result, random, config.jitter, config.jitter_probability)
    if config.greyscale:
        result = where(result, random.happens("grey", config.greyscale), lambda p: greyscale(p).expand(-1, 3, -1, -1))
    if chances.blur:
        rows = random.happens("blur", chances.blur)
        sigma = random.between("blur.sigma", *config.blur_sigma) * (size / _PUBLISHED_SIZE)
        result = where(result, rows, lambda p: gaussian_blur(p, sigma[rows]))
    if chances.solarize:
        result = where(result, random.happens("solarize", chances.solarize), solarize)
    if config.jpeg:
        coarse = random.happens("jpeg", config.jpeg)
        quality = random.between("jpeg.quality", *config.jpeg_quality)
        result = where(result, coarse, lambda p: recompress(p, quality[coarse]))
    # Sums of weights that round to a little more than one.
    return result.clamp(0, 1)


def picture_views(
    pictures: Tensor, sizes: Tensor, ids: Tensor, *, seed: int, epoch: int, config: AugmentationConfig, size: int
) -> tuple[Tensor, Tensor]:
    """Both views of a batch; the same for a creative whatever batch, rank or device it is on.

    Args:
        pictures: uint8 `[n, 3, side, side]`, RGB squares.
        sizes: int64 `[n, 2]`, the originals' height and width.
        ids: int64 `[n]`, hashed creative ids.
        seed: The run's seed.
        epoch: 0-based pass over the data.
        config: Strengths and chances.
        size: Side of the views, in pixels.

    Returns:
        Two float32 `[n, 3, size, size]` in [0, 1].
    """
    # Randomness and pixels are float32 also under autocast: a view must not depend on the training's precision.
    with torch.autocast(pictures.device.type, enabled=False):
        first, second = (picture_view(pictures, sizes, Keyed.of(seed, epoch, ids, v), config, v, size) for v in (0, 1))
    return first, second
