"""Scenes behind products: a wall, a surface, things of known size, painted for many pictures at once.

Shapes are painted with their exact coverage of each pixel, so edges are smooth without supersampling.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

NO_REFERENCE, APPLE, BOOK, PLANT, DOOR = range(5)
REFERENCES = ("none", "apple", "book", "plant", "door")
"""Things whose true size everybody knows."""
REFERENCE_CM = (0.0, 8.0, 22.0, 100.0, 200.0)
"""Their heights."""
REFERENCE_COLOURS = np.array([(0, 0, 0), (214, 38, 44), (40, 84, 190), (34, 120, 50), (124, 76, 42)], np.float32) / 255.0
"""The colour that runs through each over its whole height; walls and surfaces keep away from these."""
_REFERENCE_WIDTH = (0.0, 1.0, 0.5, 0.6, 0.44)

HUES = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
HUE_VALUES = np.array([0.0, 0.07, 0.14, 0.33, 0.48, 0.6, 0.76, 0.91])
"""Hue of each word in [0, 1)."""
TEXTURES = ("plain", "striped", "dotted")

_WHITE = np.array([0.97, 0.97, 0.97], np.float32)
_GOLD = np.array([0.93, 0.76, 0.25], np.float32)
NO_CLUTTER, MOTLEY, CAMOUFLAGE = range(3)
"""What lies everywhere: nothing, things of all colours, or patches of the product's own colours."""
_PIECES = 42


@dataclass(frozen=True)
class Scenes:
    """What n pictures show besides their product, and where the product is. Lengths are in pixels, colours in [0, 1].

    Attributes:
        label: int64 `[n]`, index into `LABELS`, the defect that was built in.
        product: int64 `[n]`, index of the product.
        body: int64 `[n, 4]`, left, top, right, bottom of the cut-out's master, without parts.
        part: int64 `[n]`, the part that is seen (`annotations_products.NO_PART` ... `KNOB`).
        owned: bool `[n]`, whether the product owns it; else the scene grew it.
        part_length: float64 `[n]`, how far it reaches beyond the body.
        part_right: bool `[n]`, whether an arm reaches to the right.
        line: float64 `[n]`, row where the wall ends and the surface begins.
        hue: int64 `[n]`, index into `HUES`: what was asked for.
        texture: int64 `[n]`, index into `TEXTURES`.
        wall: float32 `[n, 3]`.
        floor: float32 `[n, 3]`.
        clutter: int64 `[n]`, NO_CLUTTER, MOTLEY or CAMOUFLAGE.
        reference: int64 `[n]`, index into `REFERENCES`.
        reference_height: float64 `[n]`.
        reference_centre: float64 `[n]`, its column.
        reference_bottom: float64 `[n]`, its lowest row.
        noise: uint64 `[n]`, seed of each picture's details.
    """

    label: np.ndarray
    product: np.ndarray
    body: np.ndarray
    part: np.ndarray
    owned: np.ndarray
    part_length: np.ndarray
    part_right: np.ndarray
    line: np.ndarray
    hue: np.ndarray
    texture: np.ndarray
    wall: np.ndarray
    floor: np.ndarray
    clutter: np.ndarray
    reference: np.ndarray
    reference_height: np.ndarray
    reference_centre: np.ndarray
    reference_bottom: np.ndarray
    noise: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: slice | np.ndarray) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def prompts(self) -> list[str]:
        """What the generator was asked for."""
        named = zip(self.hue.tolist(), self.texture.tolist(), self.reference.tolist(), strict=True)
        return [f"{HUES[h]} room, {TEXTURES[t]} wall" + (f", {REFERENCES[r]} beside it" if r else "") for h, t, r in named]


def box_coverage(left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel that lies in a box: float32 `[n, size, size]` from four `[n]`."""
    edge = np.arange(size, dtype=np.float32)

    def covered(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        low, high = np.float32(low)[:, None], np.float32(high)[:, None]
        return np.clip(np.minimum(edge + 1, high) - np.maximum(edge, low), 0, 1)

    return covered(top, bottom)[:, :, None] * covered(left, right)[:, None, :]


def disc_coverage(x: np.ndarray, y: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel that lies in a disc, to within the curvature of one pixel: float32 `[n, size, size]`."""
    centre = np.arange(size, dtype=np.float32) + 0.5
    dx, dy = centre[None, None, :] - np.float32(x)[:, None, None], centre[None, :, None] - np.float32(y)[:, None, None]
    return np.clip(np.float32(radius)[:, None, None] - np.sqrt(dx * dx + dy * dy) + 0.5, 0, 1)


def blend(canvas: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    """Paint onto float32 `[n, size, size, 3]`, in place. `colour` is `[3]` or `[n, 3]`."""
    canvas += coverage[..., None] * (np.broadcast_to(colour, (len(canvas), 3))[:, None, None, :] - canvas)


def paint_rooms(scenes: Scenes, palette: np.ndarray, size: int) -> np.ndarray:
    """Paint walls, surfaces, references and clutter.

    Args:
        scenes: n scenes.
        palette: float32 `[n, k, 3]`, colours of each product, for camouflage.
        size: Width and height of a picture.

    Returns:
        float32 `[n, size, size, 3]` in [0, 1].
    """
    n = len(scenes)
    canvas = np.empty((n, size, size, 3), np.float32)
    shade = np.linspace(0.04, -0.04, size, dtype=np.float32)[None, :, None, None]
    canvas[:] = scenes.wall[:, None, None, :] + shade
    _paint_texture(canvas, scenes, size)
    full = np.full(n, size, np.float64)
    blend(canvas, box_coverage(0 * full, scenes.line, full, full, size), scenes.floor)
    for kind in range(APPLE, len(REFERENCES)):
        rows = np.flatnonzero((scenes.reference == kind) & (scenes.clutter != MOTLEY))
        if len(rows):
            part = canvas[rows]
            _paint_reference(part, kind, scenes[rows], size)
            canvas[rows] = part
    for clutter, pieces in ((MOTLEY, _PIECES), (CAMOUFLAGE, _PIECES // 2)):
        rows = np.flatnonzero(scenes.clutter == clutter)
        if len(rows):
            part = canvas[rows]
            _paint_clutter(part, scenes[rows], None if clutter == MOTLEY else palette[rows], pieces, size)
            canvas[rows] = part
    return canvas


def _paint_texture(canvas: np.ndarray, scenes: Scenes, size: int) -> None:
    """Stripes and dots a little darker than the wall; vertical stripes, so that no line but the surface's is level."""
    phase, period = scenes.noise % 97 / 12.0, size * (0.09 + 0.07 * (scenes.noise % 101 / 100.0))
    place = (np.arange(size)[None, :] + phase[:, None]) / period[:, None] % 1.0
    striped = (place < 0.4) & (scenes.texture == 1)[:, None]
    canvas -= 0.07 * striped[:, None, :, None]
    down = np.arange(size)[None, :] / period[:, None] % 1.0
    dots = ((place[:, None, :] - 0.5) ** 2 + (down[:, :, None] - 0.5) ** 2 < 0.08) & (scenes.texture == 2)[:, None, None]
    canvas -= 0.1 * dots[..., None]


def _paint_reference(canvas: np.ndarray, kind: int, scenes: Scenes, size: int) -> None:
    height, x, bottom = scenes.reference_height, scenes.reference_centre, scenes.reference_bottom
    top, half, colour = bottom - height, reference_width(scenes.reference, height) / 2, REFERENCE_COLOURS[kind]
    if kind == APPLE:
        blend(canvas, disc_coverage(x, bottom - height / 2, height / 2, size), colour)
        blend(canvas, disc_coverage(x - height / 6, bottom - height * 0.65, height / 10, size), _WHITE)
        blend(canvas, box_coverage(x - 0.6, top - height * 0.18, x + 0.6, top + height * 0.08, size), REFERENCE_COLOURS[DOOR] * 0.6)
    elif kind == BOOK:
        blend(canvas, box_coverage(x - half, top, x + half, bottom, size), colour)
        blend(canvas, box_coverage(x - half * 0.5, top + height * 0.2, x + half * 0.7, top + height * 0.34, size), _WHITE)
        blend(canvas, box_coverage(x - half, top, x - half * 0.8, bottom, size), colour * 0.6)
    elif kind == PLANT:
        blend(canvas, box_coverage(x - half * 0.6, bottom - height * 0.34, x + half * 0.6, bottom, size), colour * 0.75)
        blend(canvas, box_coverage(x - height * 0.03, top + height * 0.3, x + height * 0.03, bottom - height * 0.3, size), colour)
        for dx, dy, r in ((0.0, 0.17, 0.17), (-0.16, 0.36, 0.15), (0.16, 0.38, 0.15), (0.0, 0.5, 0.13)):
            blend(canvas, disc_coverage(x + dx * height, top + dy * height, r * height, size), colour)
    else:
        blend(canvas, box_coverage(x - half, top, x + half, bottom, size), colour)
        for low, high in ((0.08, 0.44), (0.52, 0.92)):
            blend(canvas, box_coverage(x - half * 0.6, top + low * height, x + half * 0.6, top + high * height, size), colour * 0.8)
        blend(canvas, disc_coverage(x + half * 0.72, bottom - height * 0.46, np.maximum(0.9, height * 0.03), size), _GOLD)


def reference_width(kind: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Width of references, in the unit of their height."""
    return np.array(_REFERENCE_WIDTH)[kind] * height


def _paint_clutter(canvas: np.ndarray, scenes: Scenes, palette: np.ndarray | None, pieces: int, size: int) -> None:
    """Boxes and discs over wall and surface, of all colours or of a palette `[n, k, 3]`."""
    rng = np.random.default_rng(scenes.noise[0])
    n = len(scenes)
    for piece in range(pieces):
        x, y = rng.uniform(0, size, (2, n))
        extent = size * rng.uniform(0.04, 0.1, n)
        colour = rng.uniform(0.05, 0.95, (n, 3)) if palette is None else palette[np.arange(n), rng.integers(palette.shape[1], size=n)]
        shape = disc_coverage(x, y, extent, size) if piece % 2 else box_coverage(x - extent, y - extent, x + extent, y + extent, size)
        blend(canvas, shape, colour.astype(np.float32))
