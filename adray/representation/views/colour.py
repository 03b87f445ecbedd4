"""Colour jitter, greyscale and solarisation of a batch, each picture with its own strength, as Pillow computes them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adray.representation.views.keyed import Keyed

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights behind Pillow's mode L
_SOLARIZE_FROM = 128 / 255


def greyscale(pictures: Tensor) -> Tensor:
    """The luma of float RGB `[n, 3, h, w]`, as `[n, 1, h, w]`."""
    red, green, blue = pictures.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]


def _blend(pictures: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    weight = factor[:, None, None, None]
    return (weight * pictures + (1 - weight) * other).clamp(0, 1)


def brightness(pictures: Tensor, factor: Tensor) -> Tensor:
    """Blend float RGB `[n, 3, h, w]` in [0, 1] with black; factor 1 (`[n]`) leaves a picture as it is."""
    return (pictures * factor[:, None, None, None]).clamp(0, 1)


def contrast(pictures: Tensor, factor: Tensor) -> Tensor:
    """Blend with the picture's mean luma; arguments as for `brightness`."""
    return _blend(pictures, greyscale(pictures).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(pictures: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey picture; arguments as for `brightness`."""
    return _blend(pictures, greyscale(pictures), factor)


def hue(pictures: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of float RGB `[n, 3, h, w]` in [0, 1] by `shift` (`[n]`, in turns: 0.5 is the opposite colour).

    Saturation and value in the sense of HSV stay. The way back uses `f(k) = v - v s max(0, min(m, 4 - m, 1))` with
    `m = (k + 6 h) mod 6` for k = 5, 3, 1: the HSV hexcone (Smith 1978) without its six cases.
    """
    value, _ = pictures.max(dim=1)
    chroma = value - pictures.min(dim=1).values
    red, green, blue = pictures.unbind(1)
    safe = chroma.clamp(min=1e-12)
    angle = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    angle = angle + 6 * shift[:, None, None]
    channels = []
    for k in (5, 3, 1):
        m = torch.remainder(k + angle, 6)
        channels.append(value - chroma * torch.minimum(m, 4 - m).clamp(0, 1))
    return torch.stack(channels, dim=1)


def solarize(pictures: Tensor) -> Tensor:
    """Invert every value of at least 128 / 255."""
    return torch.where(pictures >= _SOLARIZE_FROM, 1 - pictures, pictures)


def where(pictures: Tensor, rows: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change some pictures of a batch and leave the others.

    Args:
        pictures: `[n, c, h, w]`.
        rows: bool `[n]`.
        change: `[m, c, h, w]` to the same shape.
    """
    index = rows.nonzero()[:, 0]
    if not len(index):
        return pictures
    return pictures.index_copy(0, index, change(pictures[index]))


def jitter(pictures: Tensor, random: Keyed, strength: tuple[float, float, float, float], probability: float) -> Tensor:
    """Brightness, contrast, saturation and hue in a random order, each picture with its own order and factors.

    Args:
        pictures: float RGB `[n, 3, h, w]` in [0, 1].
        random: The pictures' random numbers.
        strength: For the first three the factor is uniform in [max(0, 1 - s), 1 + s]; the hue turns by up to s.
        probability: Share of pictures that are jittered at all.
    """
    factors = [random.between(f"jitter.{k}", max(0.0, 1 - s), 1 + s) for k, s in enumerate(strength[:3])]
    factors.append(random.between("jitter.3", -strength[3], strength[3]))
    steps = (brightness, contrast, saturation, hue)
    used = [k for k in range(4) if strength[k] > 0]
    order = random.order("jitter.order", 4)
    chosen = random.happens("jitter", probability)
    for place in range(4):
        for k in used:
            rows = chosen & (order[:, place] == k)
            pictures = where(pictures, rows, lambda p, k=k, rows=rows: steps[k](p, factors[k][rows]))  # type: ignore[misc]
    return pictures
