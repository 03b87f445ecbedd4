"""An oracle that judges pictures by measuring them, also pictures that it did not paint.

It knows what a shop knows of a product: its cut-out, placed on the canvas, and its true height. All else is measured in the
picture: where the surface begins, what of the product's colours hangs on its outline, how clearly that outline shows, and how tall
things of known size are. Measurements and thresholds are ours. With `true_labels` it can be held against how a scene was built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adray.simulation.defects import AVAILABLE, HALLUCINATION, INDISTINCT, SIZE, SPACE
from adray.simulation.scenes import APPLE, REFERENCE_CM, REFERENCE_COLOURS, Scenes

_CHUNK = 256
_PALETTE = 48


@dataclass(frozen=True)
class Thresholds:
    """Where a measurement becomes a defect."""

    line_strength: float = 0.05
    """Least step of colour between wall and surface for a support to be seen."""
    stand_rows: float = 0.5
    """Rows by which the product must reach below the line."""
    grown_share: float = 0.0025
    """Product-coloured pixels hanging on the outline, as a share of the picture, from which a part is hallucinated."""
    faint_share: float = 0.5
    """Share of the outline that may be faint."""
    faint_colour: float = 0.2
    """Distance in RGB below which a piece of outline is faint."""
    clutter_share: float = 0.12
    """Share of background pixels of unusual colour from which the scene is cluttered."""
    unusual_colour: float = 0.2
    """Distance in RGB to the usual colour of its row from which a pixel is unusual."""
    noise: float = 0.05
    """Median second difference of the background from which the picture is mere noise."""
    size_factor: float = 1.75
    """Factor between seen and true proportion from which a size is absurd."""


@dataclass(frozen=True)
class Measured:
    """What was measured in n pictures.

    Attributes:
        line: float64 `[n]`, row where the surface begins.
        line_strength: float64 `[n]`, step of colour there.
        above_line: float64 `[n]`, rows between the product's lowest row and the line; positive: it floats.
        grown: float64 `[n]`, share of the picture that looks like product and hangs on its outline without belonging to it.
        faint: float64 `[n]`, share of the outline that hardly differs from what is behind it.
        clutter: float64 `[n]`, share of the background that differs from the usual colour of its row.
        noise: float64 `[n]`, median second difference of the background.
        reference: int64 `[n]`, index into `REFERENCES` of the largest thing of known size; 0 for none.
        size_factor: float64 `[n]`, seen over true proportion of that thing and the product; 1 without one.
    """

    line: np.ndarray
    line_strength: np.ndarray
    above_line: np.ndarray
    grown: np.ndarray
    faint: np.ndarray
    clutter: np.ndarray
    noise: np.ndarray
    reference: np.ndarray
    size_factor: np.ndarray

    def labels(self, limits: Thresholds | None = None) -> np.ndarray:
        """int64 `[n]`, index into `LABELS`: the first defect found, in the order in which one would hide the next."""
        at = limits or Thresholds()
        unclear = (self.faint > at.faint_share) | (self.clutter > at.clutter_share) | (self.noise > at.noise)
        unsupported = (self.above_line > -at.stand_rows) | (self.line_strength < at.line_strength)
        absurd = np.abs(np.log(self.size_factor)) > np.log(at.size_factor)
        found = np.full(len(self.line), AVAILABLE)
        for label, defect in ((SIZE, absurd), (SPACE, unsupported), (HALLUCINATION, self.grown > at.grown_share), (INDISTINCT, unclear)):
            found[defect] = label
        return found


def true_labels(scenes: Scenes, heights_cm: np.ndarray) -> np.ndarray:
    """Labels read off the geometry of scenes, without looking at how they were meant.

    Args:
        scenes: n scenes.
        heights_cm: float `[n]`, true heights of their products.

    Returns:
        int64 `[n]`, index into `LABELS`.
    """
    below = np.where(np.isin(scenes.part, (1, 2)), scenes.part_length, 0.0)
    floats = scenes.body[:, 3] + below < scenes.line
    above = np.where(scenes.part == 4, scenes.part_length, 0.0)
    height = scenes.body[:, 3] - scenes.body[:, 1] + np.where(scenes.owned, below + above, 0.0)
    true = np.array(REFERENCE_CM)[scenes.reference] / heights_cm
    factor = np.where(scenes.reference > 0, scenes.reference_height / height / np.maximum(true, 1e-9), 1.0)
    absurd = np.abs(np.log(factor)) > np.log(Thresholds.size_factor)
    found = np.full(len(scenes), AVAILABLE)
    grown = (scenes.part > 0) & ~scenes.owned
    for label, defect in ((SIZE, absurd), (SPACE, floats), (HALLUCINATION, grown), (INDISTINCT, scenes.clutter > 0)):
        found[defect] = label
    return found


def measure(pictures: np.ndarray, cutouts: np.ndarray, heights_cm: np.ndarray) -> Measured:
    """Measure pictures.

    Args:
        pictures: uint8 `[n, size, size, 3]`.
        cutouts: uint8 `[n, size, size, 4]`, each product alone at its place.
        heights_cm: float `[n]`, the products' true heights.
    """
    parts = [_measure(*(a[i : i + _CHUNK] for a in (pictures, cutouts, heights_cm))) for i in range(0, len(pictures), _CHUNK)]
    return Measured(*(np.concatenate([part[k] for part in parts]) for k in range(9)))


def _measure(pictures: np.ndarray, cutouts: np.ndarray, heights_cm: np.ndarray) -> tuple[np.ndarray, ...]:
    colours = pictures.astype(np.float32) / 255.0
    touched, solid = cutouts[..., 3] > 0, cutouts[..., 3] >= 128
    kind, seen, covered = find_references(colours, touched)
    background = ~dilate(touched) & ~covered
    usual = row_medians(colours, background)
    line, strength = support_line(usual)
    rows = np.asarray(solid.any(axis=2))
    lowest = _last(rows)
    strange = np.linalg.norm(colours - usual[:, :, None, :], axis=3) > Thresholds.unusual_colour
    grown = grown_parts(colours, cutouts, touched, strange & ~touched & ~covered)
    product_rows = lowest - _first(rows) + 1
    true = np.array(REFERENCE_CM)[kind] / heights_cm
    factor = np.where(kind > 0, seen / product_rows / np.maximum(true, 1e-9), 1.0)
    return (
        line,
        strength,
        line - 1.0 - lowest,
        grown.mean(axis=(1, 2)),
        _faint_outline(colours, touched, solid),
        (strange & background).sum(axis=(1, 2)) / np.maximum(background.sum(axis=(1, 2)), 1),
        _noise(colours, background),
        kind,
        np.maximum(factor, 1e-6),
    )


def dilate(mask: np.ndarray) -> np.ndarray:
    """Grow bool `[n, size, size]` by one pixel in all eight directions."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    across = padded[:, :, :-2] | padded[:, :, 1:-1] | padded[:, :, 2:]
    return across[:, :-2] | across[:, 1:-1] | across[:, 2:]


def row_medians(colours: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The usual background colour of each row: float32 `[n, size, 3]`; of a row without background, that of the row above."""
    masked = np.where(background[..., None], colours, np.inf)
    masked.sort(axis=2)
    count = background.sum(axis=2)
    middle = np.take_along_axis(masked, np.maximum(count - 1, 0)[:, :, None, None] // 2, axis=2)[:, :, 0]
    for row in range(middle.shape[1]):
        empty = count[:, row] == 0
        middle[empty, row] = middle[empty, row - 1] if row else 0.5
    return middle


def support_line(usual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row at which the usual colours of three rows above and below differ most: float64 `[n]` rows and steps."""
    size = usual.shape[1]
    cumulated = np.pad(usual.cumsum(axis=1, dtype=np.float64), ((0, 0), (1, 0), (0, 0)))
    at = np.arange(round(0.3 * size), round(0.92 * size))
    above, below = cumulated[:, at] - cumulated[:, at - 3], cumulated[:, at + 3] - cumulated[:, at]
    step = np.linalg.norm(above - below, axis=2) / 3.0
    best = step.argmax(axis=1)
    return at[best].astype(np.float64), step[np.arange(len(usual)), best]


def grown_parts(colours: np.ndarray, cutouts: np.ndarray, touched: np.ndarray, strange: np.ndarray) -> np.ndarray:
    """Pixels that have the product's colours and hang together with its outline.

    Args:
        colours: float32 `[n, size, size, 3]` in [0, 1].
        cutouts: uint8 `[n, size, size, 4]`.
        touched: bool `[n, size, size]`, where a cut-out covers anything at all.
        strange: bool `[n, size, size]`, outside it, where the picture differs from what is usual there.

    Returns:
        bool `[n, size, size]`.
    """
    size = colours.shape[1]
    candidates = strange.copy()
    for row, cutout in enumerate(cutouts):
        opaque = cutout[cutout[..., 3] >= 230][:, :3].astype(np.float32) / 255.0
        palette = opaque[:: max(1, len(opaque) // _PALETTE)]
        tested = colours[row][candidates[row]]
        distance = ((tested[:, None, :] - palette) ** 2).sum(axis=2).min(axis=1, initial=np.inf)
        candidates[row][candidates[row]] = distance < 0.1**2
    grown = candidates & dilate(touched)
    for _ in range(size // 4):
        wider = dilate(grown) & candidates
        if (wider == grown).all():
            break
        grown = wider
    return grown


def _faint_outline(colours: np.ndarray, touched: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """Share of pairs of pixels across the outline, three pixels apart, that hardly differ."""
    faint, pairs = np.zeros(len(colours)), np.zeros(len(colours))
    for axis in (1, 2):
        for step in (-3, 3):
            across: np.ndarray = np.logical_and(solid, ~np.roll(touched, step, axis=axis))
            # What rolls in from the other border is no neighbour.
            across.swapaxes(0, axis)[slice(0, 3) if step > 0 else slice(-3, None)] = False
            distance = np.linalg.norm(colours - np.roll(colours, step, axis=axis), axis=3)
            faint += (across & (distance < Thresholds.faint_colour)).sum(axis=(1, 2))
            pairs += across.sum(axis=(1, 2))
    return faint / np.maximum(pairs, 1)


def _noise(colours: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Median second difference along the background's rows."""
    second = np.abs(colours[:, :, 2:] + colours[:, :, :-2] - 2 * colours[:, :, 1:-1]).mean(axis=3)
    return np.array([np.median(s[m]) if m.any() else 0.0 for s, m in zip(second, background[:, :, 1:-1], strict=True)])


def find_references(colours: np.ndarray, touched: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The thing of known size that covers most pixels.

    Returns:
        int64 `[n]` its index into `REFERENCES` (0: none), float64 `[n]` its height in rows, and bool `[n, size, size]` the box
        around it, which is not background.
    """
    n, size = touched.shape[:2]
    background = ~dilate(touched)
    near = dilate(~background) & ~touched
    best, kind, height = np.full(n, 0.003 * size * size), np.zeros(n, np.int64), np.zeros(n)
    covered = np.zeros(background.shape, bool)
    for reference in range(APPLE, len(REFERENCE_CM)):
        mask = np.zeros(background.shape, bool)
        for shade in (1.0, 0.78, 0.6):
            mask |= np.linalg.norm(colours - shade * REFERENCE_COLOURS[reference], axis=3) < 0.16
        # What touches the product has grown on it.
        stands_apart = ~(mask & near).any(axis=(1, 2))
        mask &= background
        area = mask.sum(axis=(1, 2))
        rows, columns = mask.sum(axis=2) >= 2, mask.sum(axis=1) >= 2
        found = (area > best) & stands_apart & rows.any(axis=1) & columns.any(axis=1)
        box = _span(rows)[:, :, None] & _span(columns)[:, None, :]
        # Scattered pixels of its colour are no thing: its box is well filled.
        found &= area > 0.35 * box.sum(axis=(1, 2))
        height[found] = (_last(rows) - _first(rows) + 1)[found]
        kind[found], best[found], covered[found] = reference, area[found], dilate(box)[found]
    return kind, height, covered


def _span(flags: np.ndarray) -> np.ndarray:
    """From the first to the last flag that is set: bool `[n, size]`."""
    at = np.arange(flags.shape[1])[None, :]
    found = np.asarray(flags.any(axis=1))
    return found[:, None] & (at >= _first(flags)[:, None]) & (at <= _last(flags)[:, None])


def _first(rows: np.ndarray) -> np.ndarray:
    return rows.argmax(axis=1).astype(np.float64)


def _last(rows: np.ndarray) -> np.ndarray:
    return rows.shape[1] - 1.0 - rows[:, ::-1].argmax(axis=1)
