"""Places in a picture that may hold a logo, whatever its brand."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from adray.representation.attributes.colour_space import rgb_to_lab

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels."""

_LONG_SIDE = 256
_DIFFERENT = 14.0
"""CIELab distance from what surrounds it at which a pixel stands out."""
_LEAST_AREA, _MOST_AREA = 0.002, 0.2
"""Shares of the picture's area that a logo may take."""
_MOST_ASPECT = 6.0
_CORNERS = (0.2, 0.32)
"""Sides of the windows in each corner, as shares of the shorter side."""


def candidate_boxes(picture: np.ndarray, background: Sequence[float] = (), most: int = 24) -> list[Box]:
    """Class-agnostic candidates: what stands out of the background, and what stands out in each corner.

    Args:
        picture: uint8 `[height, width, 3]`, RGB.
        background: CIELab of the background, empty where there is none.
        most: Candidates kept, the largest first.

    Returns:
        Boxes in the picture's pixels, without near repeats.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, _LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lab = rgb_to_lab(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    boxes: list[tuple[int, int, int, int]] = []
    if background:
        boxes += _components(np.linalg.norm(lab - np.asarray(background), axis=2) > _DIFFERENT)
    for share in _CORNERS:
        boxes += _in_corners(lab, max(4, round(share * min(size))))
    area = size[0] * size[1]
    fitting = [b for b in boxes if _LEAST_AREA <= (b[2] - b[0]) * (b[3] - b[1]) / area <= _MOST_AREA and _aspect(b) <= _MOST_ASPECT]
    fitting.sort(key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))
    kept: list[tuple[int, int, int, int]] = []
    for box in fitting:
        if all(overlap(box, other) < 0.8 for other in kept):
            kept.append(box)
    back_x, back_y = width / size[0], height / size[1]
    return [(left * back_x, top * back_y, right * back_x, bottom * back_y) for left, top, right, bottom in kept[:most]]


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (area_of(first) + area_of(second) - both)


def area_of(box: Sequence[float]) -> float:
    """Area of a box in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _aspect(box: Sequence[float]) -> float:
    width, height = box[2] - box[0], box[3] - box[1]
    return max(width, height) / max(min(width, height), 1)


def _components(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Boxes of connected pixels, with the strokes of a sign joined first, and without."""
    found = []
    for reach in (1, 5):
        closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
        found += [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:]]
    return found


def _in_corners(lab: np.ndarray, side: int) -> list[tuple[int, int, int, int]]:
    """In each corner's window the box of what differs from the window's median colour, found piece by piece."""
    height, width = lab.shape[:2]
    found = []
    for top in {0, height - side}:
        for left in {0, width - side}:
            window = lab[max(top, 0) : max(top, 0) + side, max(left, 0) : max(left, 0) + side]
            own = np.median(window.reshape(-1, 3), axis=0)
            for x0, y0, x1, y1 in _components(np.linalg.norm(window - own, axis=2) > _DIFFERENT):
                found.append((x0 + max(left, 0), y0 + max(top, 0), x1 + max(left, 0), y1 + max(top, 0)))
    return found
