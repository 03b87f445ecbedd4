"""What a cut-out tells the generator, and what is kept of it: edges, the mask that may be repainted, and the final paste.

All after the published pipeline (ZhenbangDu/Reliable_AD, `sample.py`, `utils/utils.py`).
"""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

CANNY_THRESHOLDS = (100, 200)
DILATION = 20
"""Side of the published dilation kernel, in pixels of a picture of `DILATION_SIZE`."""
DILATION_SIZE = 512


def canny_edges(cutouts: np.ndarray) -> np.ndarray:
    """Edges of products on black, thresholds 100 and 200.

    Args:
        cutouts: uint8 `[n, h, w, 4]`, straight alpha. The colour under alpha 0 does not matter.

    Returns:
        uint8 `[n, h, w, 3]`, 0 or 255, the three channels equal.
    """
    alpha = cutouts[..., 3:].astype(np.uint16)
    on_black = ((cutouts[..., :3] * alpha + 127) // 255).astype(np.uint8)
    edges = [cv2.Canny(picture, *CANNY_THRESHOLDS) for picture in on_black]
    stacked = np.stack(edges) if edges else np.zeros(cutouts.shape[:3], np.uint8)
    return np.repeat(stacked[..., None], 3, axis=3)


def inpaint_masks(cutouts: np.ndarray, dilation: int = DILATION) -> np.ndarray:
    """Where the model may paint: the complement of the product, widened over a thin band of its edge.

    Args:
        cutouts: uint8 `[n, h, w, 4]`.
        dilation: Side of the kernel in pixels at 512 px; scaled with the shorter side, at least 1 px.

    Returns:
        bool `[n, h, w]`, True where it may be repainted.
    """
    side = max(1, round(dilation * min(cutouts.shape[1:3]) / DILATION_SIZE))
    kernel = np.ones((side, side), np.uint8)
    masks = [cv2.dilate(255 - picture[..., 3], kernel) for picture in cutouts]
    stacked = np.stack(masks) if masks else np.zeros(cutouts.shape[:3], np.uint8)
    return stacked >= 128


def paste(pictures: np.ndarray, cutouts: np.ndarray) -> np.ndarray:
    """Lay the products on generated pictures with their undilated alpha: `out = (1 - m) product + m generated`, m = 1 - alpha.

    Args:
        pictures: `[n, h, w, 3]`, uint8, or float in [0, 1].
        cutouts: uint8 `[n, h, w, 4]`.

    Returns:
        uint8 `[n, h, w, 3]`: where alpha is 255 the product's very pixels, where it is 0 the generated ones.
    """
    alpha = cutouts[..., 3:].astype(np.float32) / 255.0
    levels = pictures.astype(np.float32) if pictures.dtype == np.uint8 else pictures.astype(np.float32) * 255.0
    mixed = cutouts[..., :3] * alpha + levels * (1.0 - alpha)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def paste_tensor(pictures: Tensor, cutouts: Tensor) -> Tensor:
    """`paste` for tensors, differentiable in `pictures`: the gradient is exactly 0 where alpha is 1.

    Args:
        pictures: float `[n, 3, h, w]` in [0, 1].
        cutouts: float `[n, 4, h, w]` in [0, 1], straight alpha.

    Returns:
        float `[n, 3, h, w]`.
    """
    alpha = cutouts[:, 3:]
    return cutouts[:, :3] * alpha + pictures * (1.0 - alpha)
