"""What is measured of a picture's background: its wall, its surface, and a coarse copy of it all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from adray.simulation.annotations_oracle import dilate, find_references
from adray.simulation.scenes import HUE_VALUES, HUES

GRID = 8
"""Cells across and down of the coarse copy."""
LEAST_CHROMA = 0.03
"""Largest minus smallest channel of a wall's colour below which it is grey and has no hue; drawn walls have 0.08 or more."""
_ASKED = re.compile(rf"\b({'|'.join(HUES)}) room\b", re.IGNORECASE)


@dataclass(frozen=True)
class Backgrounds:
    """The backgrounds of n pictures.

    Attributes:
        wall: float32 `[n, 3]` in [0, 1], median colour above the line.
        floor: float32 `[n, 3]`, median colour from the line on.
        hue: int64 `[n]`, index into `HUES` of the word nearest the wall's hue; -1 for a grey wall.
        line: float64 `[n]`, where the surface begins, as a share of the height.
        reference: int64 `[n]`, index into `REFERENCES`.
        cells: float32 `[n, 8, 8, 3]`, mean colour of the background in each cell.
        seen: bool `[n, 8, 8]`, whether a cell has any background.
    """

    wall: np.ndarray
    floor: np.ndarray
    hue: np.ndarray
    line: np.ndarray
    reference: np.ndarray
    cells: np.ndarray
    seen: np.ndarray

    def __len__(self) -> int:
        return len(self.hue)

    def __getitem__(self, rows: slice | np.ndarray) -> Backgrounds:
        return Backgrounds(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def concatenated(cls, parts: Sequence[Backgrounds]) -> Backgrounds:
        """Many as one."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def measure_backgrounds(pictures: np.ndarray, cutouts: np.ndarray, line: np.ndarray, reference: np.ndarray) -> Backgrounds:
    """Measure backgrounds.

    The hue of a wall is that of its median colour. Shading adds the same to all three channels, which leaves the hue of HSV as it
    was, and things that stand before the wall are fewer than half of its pixels.

    Args:
        pictures: uint8 `[n, size, size, 3]`.
        cutouts: uint8 `[n, size, size, 4]`.
        line: float `[n]`, row at which the surface begins, from the oracle.
        reference: int `[n]`, the thing of known size that the oracle found.
    """
    size = pictures.shape[1]
    colours = pictures.astype(np.float32) / np.float32(255)
    touched = cutouts[..., 3] > 0
    background = ~dilate(touched)
    plain = background & ~find_references(colours, touched)[2]
    above = np.arange(size)[None, :] < line[:, None] - 1
    below = np.arange(size)[None, :] > line[:, None]
    usual = _medians(colours, background, np.full((len(pictures), 3), 0.5, np.float32))
    wall = _medians(colours, plain & above[:, :, None], usual)
    cells, seen = _coarse(colours, background)
    floor = _medians(colours, plain & below[:, :, None], usual)
    return Backgrounds(wall, floor, nearest_hues(wall), line / size, reference, cells, seen)


def nearest_hues(colours: np.ndarray) -> np.ndarray:
    """The hue words nearest to colours on the circle of HSV's hues.

    Args:
        colours: float `[n, 3]` in [0, 1].

    Returns:
        int64 `[n]`, index into `HUES`; -1 where a colour is grey.
    """
    red, green, blue = colours.astype(np.float64).T
    most, chroma = colours.max(axis=1), np.ptp(colours.astype(np.float64), axis=1)
    by = np.where(chroma > 0, chroma, 1.0)
    sixths = np.where(most == red, (green - blue) / by, np.where(most == green, (blue - red) / by + 2, (red - green) / by + 4))
    away = np.abs((sixths[:, None] / 6.0 - HUE_VALUES + 0.5) % 1.0 - 0.5)
    return np.where(chroma < LEAST_CHROMA, -1, away.argmin(axis=1))


def asked_hues(prompts: Sequence[str | None]) -> np.ndarray:
    """The hue that each prompt asks for in words such as "green room": int64 `[n]`, index into `HUES`; -1 where none is named."""
    found = (_ASKED.search(prompt or "") for prompt in prompts)
    return np.array([-1 if match is None else HUES.index(match.group(1).lower()) for match in found], np.int64)


def _medians(colours: np.ndarray, mask: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """float32 `[n, 3]`: median colour of each picture under its mask `[n, size, size]`."""
    found = otherwise.copy()
    for row in np.flatnonzero(mask.any(axis=(1, 2))):
        found[row] = np.median(colours[row][mask[row]], axis=0)
    return found


def _coarse(colours: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.linspace(0, colours.shape[1], GRID + 1).astype(int)[:-1]

    def summed(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values, starts, axis=1), starts, axis=2)

    pixels = summed(background.astype(np.float32))
    return summed(colours * background[..., None]) / np.maximum(pixels, 1)[..., None], pixels > 0
