"""Near-duplicates among creatives: found by perceptual hashes, left out before anything is measured.

A gallery with copies of the query makes any vector look good. Two hashes have to agree, because each alone mistakes some
pictures for others: dHash compares neighbouring brightness, pHash the signs of the lowest frequencies. Both are blind to
colour, which is what tells two variants of an advertisement apart, so thumbnails are compared as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn

_SIDE = 8
_WAVES = 32
_BLOCK = 512


@dataclass(frozen=True)
class Fingerprints:
    """What pictures are compared by.

    Attributes:
        dhash: uint64 `[n]`.
        phash: uint64 `[n]`.
        thumbnails: uint8 `[n, 8, 8, 3]`.
        present: bool `[n]`, whether there is a picture.
        copies: n texts, spaces and case evened out.
    """

    dhash: np.ndarray
    phash: np.ndarray
    thumbnails: np.ndarray
    present: np.ndarray
    copies: list[str]


def dhash(picture: np.ndarray) -> int:
    """Difference hash: whether each of 8 x 8 cells is darker than its right neighbour, on a 9 x 8 greyscale thumbnail.

    Args:
        picture: uint8 `[height, width, 3]`.

    Returns:
        64 bits.
    """
    grey = np.asarray(Image.fromarray(picture).convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), np.int16)
    return _bits(grey[:, 1:] > grey[:, :-1])


def phash(picture: np.ndarray) -> int:
    """Perceptual hash: which of the 8 x 8 lowest cosine coefficients of a 32 x 32 greyscale thumbnail exceed their median.

    The constant one is left out of the median, as it tells brightness alone.
    """
    grey = np.asarray(Image.fromarray(picture).convert("L").resize((_WAVES, _WAVES), Image.Resampling.BOX), np.float64)
    low = dctn(grey, norm="ortho")[:_SIDE, :_SIDE]
    return _bits(low > np.median(low.ravel()[1:]))


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags.ravel()).tobytes(), "big")


def fingerprints(pictures: Sequence[np.ndarray | None], copies: Sequence[str]) -> Fingerprints:
    """Hashes and thumbnails of n creatives."""
    blank = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    small = [blank if p is None else np.asarray(Image.fromarray(p).resize((_SIDE, _SIDE), Image.Resampling.BOX)) for p in pictures]
    return Fingerprints(
        np.array([0 if p is None else dhash(p) for p in pictures], np.uint64),
        np.array([0 if p is None else phash(p) for p in pictures], np.uint64),
        np.stack(small) if small else np.zeros((0, _SIDE, _SIDE, 3), np.uint8),
        np.array([p is not None for p in pictures], bool),
        [" ".join(text.casefold().split()) for text in copies],
    )


def first_of_each(prints: Fingerprints, bits: int, colour: float) -> np.ndarray:
    """Rows to keep: those that are no near-duplicate of a kept row before them.

    Pictures are near-duplicates when both hashes differ in at most `bits` of 64 and thumbnails by at most `colour` levels on
    average; creatives without picture when their copy is the same.

    Args:
        prints: Of n creatives.
        bits: Greatest Hamming distance.
        colour: Greatest mean absolute difference, in levels of 0..255.

    Returns:
        bool `[n]`.
    """
    rows = len(prints.copies)
    keep = np.ones(rows, bool)
    seen: set[str] = set()
    for row in np.flatnonzero(~prints.present).tolist():
        keep[row] = prints.copies[row] not in seen
        seen.add(prints.copies[row])
    flat = prints.thumbnails.reshape(rows, -1).astype(np.int16)
    places = np.flatnonzero(prints.present)
    for start in range(0, len(places), _BLOCK):
        block = places[start : start + _BLOCK]
        near = np.bitwise_count(prints.dhash[block, None] ^ prints.dhash[places]) <= bits
        near &= np.bitwise_count(prints.phash[block, None] ^ prints.phash[places]) <= bits
        near &= places[None] < block[:, None]
        for i in np.flatnonzero(near.any(axis=1)).tolist():
            earlier = places[near[i]]
            # Earlier rows are decided already: blocks and rows come in ascending order.
            earlier = earlier[keep[earlier]]
            if len(earlier) and (np.abs(flat[earlier] - flat[block[i]]).mean(axis=1) <= colour).any():
                keep[block[i]] = False
    return keep
