"""The background's colour, measured: the dominant colour of what is connected to the picture's border."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage

from adray.representation.attributes.colour_space import ciede2000, rgb_to_lab
from adray.representation.attributes.palette import COMPLEX, nearest_name
from adray.representation.attributes.values import Background

LONG_SIDE = 256
"""Pixels to which the longer side is reduced before anything is measured."""
FRAME = 0.04
"""Width of the border frame as a share of the shorter side."""
TOLERANCE = 10.0
"""Greatest CIELab distance between a background's pixel and the border colour it belongs to."""
LEAST_BORDER_SHARE = 0.5
"""Below this share of the border the dominant colour is not the background: it is `complex`."""
GREATEST_DISPERSION = 15.0
"""Above this mean CIEDE2000 from the dominant colour the background is `complex`."""

_LEAST_MODE = 0.05
_BIN = 4.0


def measure_background(
    picture: np.ndarray, text_polygons: Sequence[Sequence[float]] = (), product_mask: np.ndarray | None = None
) -> Background:
    """Measure the background's colour.

    The colours of a border frame are found by mean shift in CIELab (Comaniciu and Meer 2002); the background is every pixel
    near one of them that is connected to the frame; its dominant colour is the largest mode of the most frequent name. A fixed distance
    from the border's colours, rather than a step between neighbours, keeps the flood from running into the product over a soft
    edge. Whether one colour dominates is judged on the border, not on the whole picture: the share of the picture that the
    background leaves free depends on how large the product is.

    Args:
        picture: uint8 `[height, width, 3]`, RGB.
        text_polygons: x, y of the corners of texts in pixels, which are left out.
        product_mask: bool `[height, width]`, set where the product is; left out too.

    Returns:
        The colour; `unknown` where texts and product leave no border.
    """
    small, hidden = _reduced(picture, text_polygons, product_mask)
    lab = rgb_to_lab(small).astype(np.float32)
    frame = _frame(hidden.shape) & ~hidden
    if not frame.any():
        return Background()
    modes = _modes(lab[frame], least=_LEAST_MODE)
    near = np.min(np.linalg.norm(lab[:, :, None] - modes[None, None], axis=3), axis=2) < TOLERANCE
    background = _connected(near & ~hidden, frame)
    if not background.any():
        return Background()
    pixels = lab[background]
    own, mode = _of_one_name(lab, background)
    # The median is not moved by the blurred pixels at the product's edge.
    centre = np.median(lab[background & (np.linalg.norm(lab - mode, axis=2) < TOLERANCE)], axis=0)
    dispersion = float(ciede2000(pixels, centre[None]).mean())
    border_share = float((own & frame).sum() / frame.sum())
    name, margin = nearest_name(centre)
    plain = border_share >= LEAST_BORDER_SHARE and dispersion <= GREATEST_DISPERSION
    # A score, not a probability: sure when the border has this colour alone and no other name is near.
    confidence = border_share * (0.5 + 0.5 * margin) if plain else 1.0 - border_share
    return Background(
        lab=tuple(float(value) for value in centre),
        name=name if plain else COMPLEX,
        coverage=float(own.mean()),
        border_share=border_share,
        dispersion=dispersion,
        source="image",
        confidence=float(np.clip(confidence, 0.0, 1.0)),
    )


def _of_one_name(lab: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The background's pixels (bool `[height, width]`) that bear its most frequent name, and the mode of the most of them.

    Two tones of one name, as stripes and soft light have them, are one colour to whoever names it.
    """
    pixels = lab[background]
    modes = _modes(pixels, least=_LEAST_MODE)
    names = np.array([nearest_name(mode)[0] for mode in modes])
    distances = np.linalg.norm(pixels[:, None] - modes[None], axis=2)
    nearest = np.where(distances.min(axis=1) < TOLERANCE, distances.argmin(axis=1), -1)
    counts = np.array([(nearest == i).sum() for i in range(len(modes))])
    shares = {name: counts[names == name].sum() for name in names}
    best = max(shares, key=lambda name: shares[name])
    own = background.copy()
    own[background] = np.isin(nearest, np.flatnonzero(names == best))
    return own, modes[np.argmax(np.where(names == best, counts, -1))]


def _reduced(picture: np.ndarray, polygons: Sequence[Sequence[float]], mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The picture with its longer side at most `LONG_SIDE`, and bool `[height, width]`: what does not count."""
    height, width = picture.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = picture if scale == 1.0 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    hidden = np.zeros((size[1], size[0]), np.uint8)
    for polygon in polygons:
        corners = np.round(np.reshape(polygon, (-1, 2)) * scale).astype(np.int32)
        cv2.fillPoly(hidden, [corners], 1)
    if polygons:
        # Letters reach a little beyond their boxes once they are blurred.
        hidden = cv2.dilate(hidden, np.ones((3, 3), np.uint8))
    if mask is not None:
        hidden |= cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(small), np.asarray(hidden, bool)


def _frame(shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape
    wide = max(1, round(FRAME * min(height, width)))
    frame = np.ones((height, width), bool)
    frame[wide : height - wide, wide : width - wide] = False
    return frame


def _connected(allowed: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Of the allowed pixels those that are joined to the frame over edges or corners."""
    labels, count = ndimage.label(allowed, structure=np.ones((3, 3), int))
    touching = np.zeros(count + 1, bool)
    touching[np.unique(labels[frame & allowed])] = True
    touching[0] = False
    return touching[labels]


def _modes(pixels: np.ndarray, least: float) -> np.ndarray:
    """Modes of colours `[n, 3]` by mean shift, the most frequent first: float32 `[m, 3]`, at least one.

    Works on a histogram with bins of 4 units, starts at its fullest bin, and takes away what lies within the tolerance of
    each mode; modes of less than a share `least` of the pixels are left out. No random start, so no seed.
    """
    # One number per bin: L, a and b each fill less than 64 bins.
    bins = (np.floor(pixels / _BIN).astype(np.int64) + 32) @ np.array([4096, 64, 1])
    _, inverse, counts = np.unique(bins, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(inverse, weights=pixels[:, i]) for i in range(3)], axis=1) / counts[:, None]
    left = counts.astype(np.float64)
    found: list[tuple[float, np.ndarray]] = []
    while left.sum() > 0.0 and (not found or left.sum() >= least * len(pixels)):
        centre = means[np.argmax(left)]
        for _ in range(20):
            inside = (np.linalg.norm(means - centre, axis=1) < TOLERANCE) & (left > 0.0)
            moved = np.average(means[inside], axis=0, weights=left[inside])
            shift, centre = float(np.linalg.norm(moved - centre)), moved
            if shift < 0.1:
                break
        inside = (np.linalg.norm(means - centre, axis=1) < TOLERANCE) & (left > 0.0)
        found.append((float(left[inside].sum()), centre))
        left[inside] = 0.0
    found.sort(key=lambda mode: -mode[0])
    kept = [centre for share, centre in found if share >= least * len(pixels)] or [found[0][1]]
    return np.asarray(kept, np.float32)
