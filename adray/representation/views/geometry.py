"""Cropping, resizing, flipping and shifting a batch in one go: two small matrices per picture.

Resizing with an antialiasing filter is linear and separable, so a crop of any box to any size is `rows @ picture @ columns^T`
with one weight matrix per axis. Each picture may have its own box, the flip mirrors the column matrix, and the whole is a
batched matrix product, fast on CPU and GPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adray.representation.views.keyed import Keyed

_ATTEMPTS = 10


def resampling(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Weights that resize the interval `[start, start + length)` of an axis to `size_out` samples, as Pillow's bilinear filter does.

    The filter is a triangle, as wide as the larger of one input and one output sample. Samples outside the axis take no
    part, and the rest is brought back to a sum of one.

    Args:
        start: float `[n]`, in input samples.
        length: float `[n]`, positive.
        size_in: Samples of the axis.
        size_out: Samples wanted.

    Returns:
        float32 `[n, size_out, size_in]`, rows that sum to 1; all zero where an output sample sees nothing of the axis.
    """
    step = (length / size_out)[:, None, None]
    reach = step.clamp(min=1.0)
    out = torch.arange(size_out, device=start.device, dtype=torch.float32)[None, :, None] + 0.5
    centre = start[:, None, None] + out * step
    samples = torch.arange(size_in, device=start.device, dtype=torch.float32)[None, None, :] + 0.5
    weights = (1 - (samples - centre).abs() / reach).clamp(min=0)
    # What lies outside the crop is not there for Pillow, which cuts first and resizes then.
    inside = (samples >= start[:, None, None].floor()) & (samples <= (start + length)[:, None, None].ceil())
    weights = weights * inside
    return weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-12)


def resample(pictures: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one weight matrix per picture and axis.

    Args:
        pictures: float `[n, c, h, w]`.
        rows: float `[n, a, h]`.
        columns: float `[n, b, w]`.

    Returns:
        float `[n, c, a, b]`.
    """
    return rows[:, None] @ pictures @ columns[:, None].transpose(2, 3)


def crop_boxes(random: Keyed, sizes: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Random boxes of a given share of the area and aspect ratio (Szegedy et al. 2015; the procedure torchvision made common).

    Ten boxes are drawn per picture and the first that fits is taken; where none fits, the largest centred box with an
    allowed ratio. Sides are whole pixels of the original picture.

    Args:
        random: The pictures' random numbers.
        sizes: int64 `[n, 2]`, height and width of the originals.
        scale: Least and largest share of the area.
        ratio: Least and largest width / height, log-uniform between.

    Returns:
        float32 `[n, 4]`: top, left, height, width as shares of the picture's sides.
    """
    height, width = sizes.float().unbind(1)
    area = (height * width)[:, None] * (scale[0] + (scale[1] - scale[0]) * random.uniform("crop.area", _ATTEMPTS))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * random.uniform("crop.ratio", _ATTEMPTS))
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (h > 0) & (w <= width[:, None]) & (h <= height[:, None])
    first = fits.int().argmax(dim=1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    top = (random.uniform("crop.top", 1)[:, 0] * (height - h + 1)).floor()
    left = (random.uniform("crop.left", 1)[:, 0] * (width - w + 1)).floor()
    centred_w = torch.minimum(width, (height * ratio[1]).round())
    centred_h = torch.minimum(height, (width / ratio[0]).round())
    found = fits.any(dim=1)
    h, w = torch.where(found, h, centred_h), torch.where(found, w, centred_w)
    top = torch.where(found, top, ((height - h) / 2).floor())
    left = torch.where(found, left, ((width - w) / 2).floor())
    return torch.stack([top / height, left / width, h / height, w / width], dim=1)


def shifted_boxes(random: Keyed, boxes: Tensor, share: float) -> Tensor:
    """Move and widen boxes past the picture's edge, so that what is resized has a margin on some sides.

    Args:
        random: The pictures' random numbers.
        boxes: float32 `[n, 4]` as from `crop_boxes`.
        share: Largest margin as a share of the box's side; each of the four margins is drawn from 0..share.

    Returns:
        float32 `[n, 4]`.
    """
    margin = share * random.uniform("shift.margin", 4)
    top, left, height, width = boxes.unbind(1)
    return torch.stack(
        [
            top - margin[:, 0] * height,
            left - margin[:, 1] * width,
            height * (1 + margin[:, 0] + margin[:, 2]),
            width * (1 + margin[:, 1] + margin[:, 3]),
        ],
        dim=1,
    )


def crop_resize(pictures: Tensor, boxes: Tensor, size: int, flip: Tensor | None = None, fill: float = 1.0) -> Tensor:
    """Cut a box out of each picture and bring it to `size x size`.

    Args:
        pictures: float `[n, c, h, w]` in [0, 1].
        boxes: float `[n, 4]`: top, left, height, width as shares of the sides; what lies outside the picture is `fill`.
        size: Side of the result, in pixels.
        flip: bool `[n]`, mirror left and right; None mirrors none.
        fill: Grey level of what is outside.

    Returns:
        float `[n, c, size, size]`.
    """
    height, width = pictures.shape[2:]
    rows = resampling(boxes[:, 0] * height, boxes[:, 2] * height, height, size)
    columns = resampling(boxes[:, 1] * width, boxes[:, 3] * width, width, size)
    if flip is not None:
        columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    result = resample(pictures, rows, columns)
    # A row or column of weights that sums to zero lies outside the picture.
    there = rows.sum(dim=2)[:, :, None] * columns.sum(dim=2)[:, None, :]
    return result + fill * (1 - there)[:, None]
