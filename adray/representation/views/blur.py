"""Gaussian blur and JPEG-like recompression of a batch, each picture with its own strength, as matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adray.representation.views.geometry import resample


def blur_weights(sigma: Tensor, size: int) -> Tensor:
    """Blurring along an axis as a matrix: a sampled Gaussian, cut off at 4 sigma, edges repeated.

    Args:
        sigma: float `[n]`, standard deviation in pixels, positive.
        size: Pixels of the axis.

    Returns:
        float32 `[n, size, size]`, rows that sum to 1.
    """
    n = len(sigma)
    reach = max(1, min(size - 1, math.ceil(4 * float(sigma.max())))) if n else 1
    offsets = torch.arange(-reach, reach + 1, device=sigma.device)
    scaled = offsets[None].float() / sigma[:, None]
    kernel = torch.where(offsets[None].abs() <= (4 * sigma[:, None] + 0.5).floor(), torch.exp(-0.5 * scaled**2), 0.0)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    source = (torch.arange(size, device=sigma.device)[:, None] + offsets).clamp(0, size - 1)
    weights = torch.zeros(n, size, size, device=sigma.device)
    return weights.scatter_add_(2, source.expand(n, -1, -1), kernel[:, None].expand(-1, size, -1))


def gaussian_blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Blur float `[n, c, h, w]` with standard deviations `[n]` in pixels."""
    rows = blur_weights(sigma, pictures.shape[2])
    columns = rows if pictures.shape[3] == pictures.shape[2] else blur_weights(sigma, pictures.shape[3])
    return resample(pictures, rows, columns)


# Tables K.1 and K.2 of ITU-T T.81, the quantisation that encoders scale by the quality.
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal 8-point DCT-II as a matrix, `[8, 8]`."""
    k = torch.arange(8, device=device, dtype=torch.float32)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


def recompress(pictures: Tensor, quality: Tensor) -> Tensor:
    """What JPEG at a quality leaves of a picture, without making the file: 8 x 8 DCT, quantisation, and back; full chroma.

    The lossless part of JPEG (entropy coding) changes no pixel and is left out; so is chroma subsampling.

    Args:
        pictures: float RGB `[n, 3, h, w]` in [0, 1], any size.
        quality: float `[n]`, 1..99 on the scale of the Independent JPEG Group.

    Returns:
        float RGB `[n, 3, h, w]` in [0, 1].
    """
    n, _, height, width = pictures.shape
    padded = torch.nn.functional.pad(pictures * 255, (0, -width % 8, 0, -height % 8), mode="replicate")
    matrix = torch.tensor(_TO_YCC, device=pictures.device)
    blocks = (matrix @ padded.flatten(2)).unflatten(2, padded.shape[2:])
    # Luma is centred by subtracting 128; chroma is centred already.
    offset = torch.tensor([128.0, 0.0, 0.0], device=pictures.device)[:, None, None]
    blocks = (blocks.round() - offset).unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor()
    tables = torch.tensor([_LUMA_TABLE, _CHROMA_TABLE, _CHROMA_TABLE], device=pictures.device, dtype=torch.float32)
    tables = ((tables[None] * scale[:, None, None, None] + 50) / 100).floor().clamp(1, 255)[:, :, None, None]
    dct = _cosines(pictures.device)
    quantised = ((dct @ blocks @ dct.T) / tables).round() * tables
    restored = (dct.T @ quantised @ dct).transpose(3, 4).flatten(4, 5).flatten(2, 3).round() + offset
    restored = (torch.linalg.inv(matrix) @ restored.flatten(2)).unflatten(2, restored.shape[2:])
    return (restored / 255).clamp(0, 1)[:, :, :height, :width]
