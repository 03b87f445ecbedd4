"""Legs, bases, arms and knobs: parts that some products own, and that a hallucinating scene grows onto others."""

from __future__ import annotations

import numpy as np

from adray.simulation.annotations_products import ARM, BASE, KNOB, LEGS
from adray.simulation.scenes import Scenes, box_coverage, disc_coverage


def part_coverage(scenes: Scenes, size: int) -> np.ndarray:
    """Share of each pixel covered by the picture's part, which lies behind the body.

    A part looks the same whoever owns it: only the cut-out tells whether it belongs to the product.

    Args:
        scenes: n scenes.
        size: Width and height of a picture.

    Returns:
        float32 `[n, size, size]`; zeros where there is no part.
    """
    coverage = np.zeros((len(scenes), size, size), np.float32)
    for part, draw in ((LEGS, _legs), (BASE, _base), (ARM, _arm), (KNOB, _knob)):
        rows = np.flatnonzero(scenes.part == part)
        if len(rows):
            own = scenes[rows]
            left, top, right, bottom = own.body.T.astype(np.float64)
            coverage[rows] = draw(own, left, top, right, bottom, size)
    return coverage


def _thickness(scenes: Scenes, size: int) -> np.ndarray:
    return np.maximum(2.0, 0.35 * scenes.part_length) * np.maximum(1.0, size / 256)


def _legs(scenes: Scenes, left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray, size: int) -> np.ndarray:
    width, foot, thick = right - left, bottom + scenes.part_length, _thickness(scenes, size)
    # They begin inside the body's box, so that they touch products that narrow towards the bottom.
    start = bottom - 0.3 * (bottom - top)
    first = left + 0.14 * width
    second = right - 0.14 * width - thick
    return np.maximum(box_coverage(first, start, first + thick, foot, size), box_coverage(second, start, second + thick, foot, size))


def _base(scenes: Scenes, left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray, size: int) -> np.ndarray:
    centre, half, foot = (left + right) / 2, 0.5 * (right - left), bottom + scenes.part_length
    stem = box_coverage(centre - half * 0.35, bottom - 0.2 * (bottom - top), centre + half * 0.35, foot, size)
    plate = box_coverage(centre - half * 1.1, foot - 0.5 * scenes.part_length, centre + half * 1.1, foot, size)
    return np.maximum(stem, plate)


def _arm(scenes: Scenes, left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray, size: int) -> np.ndarray:
    thick, y = _thickness(scenes, size), top + 0.5 * (bottom - top)
    centre = (left + right) / 2
    tip = np.where(scenes.part_right, right + scenes.part_length, left - scenes.part_length)
    bar = box_coverage(np.minimum(centre, tip), y - thick / 2, np.maximum(centre, tip), y + thick / 2, size)
    inward = np.where(scenes.part_right, -1.0, 1.0)
    return np.maximum(bar, disc_coverage(tip + inward * thick, y, thick, size))


def _knob(scenes: Scenes, left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray, size: int) -> np.ndarray:
    thick, x, tip = _thickness(scenes, size), (left + right) / 2, top - scenes.part_length
    bar = box_coverage(x - thick / 2, tip, x + thick / 2, top + 0.3 * (bottom - top), size)
    return np.maximum(bar, disc_coverage(x, tip + thick, thick, size))
