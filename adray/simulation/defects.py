"""Drawing what n pictures show, with defects that are true by construction (the classes of Du et al., ECCV 2024).

What tells classes apart is where things are, how large they are, and what belongs to the product: a scene is drawn the same
way for every label but for its one defect. How much each defect deviates is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adray.data.labels import LABELS
from adray.simulation.annotations_config import AnnotationsConfig
from adray.simulation.annotations_products import ARM, BASE, HEIGHTS_CM, KNOB, LEGS, NO_PART, AnnotatedProducts
from adray.simulation.catalogue import hsv_to_rgb
from adray.simulation.scenes import (
    APPLE,
    BOOK,
    CAMOUFLAGE,
    DOOR,
    HUE_VALUES,
    HUES,
    MOTLEY,
    NO_CLUTTER,
    NO_REFERENCE,
    PLANT,
    REFERENCE_CM,
    REFERENCE_COLOURS,
    TEXTURES,
    Scenes,
    reference_width,
)

AVAILABLE, SPACE, SIZE, INDISTINCT, HALLUCINATION = range(len(LABELS))
CONTRAST = 0.3
"""Distance in RGB that walls and surfaces keep from the product's colours, and about from those of references."""
GAP = 4.0
"""Least pixels between a product and a reference."""

_CANDIDATES = 12
_INDISTINCT_MIX = (0.35, 0.65, 0.0)
_REFERENCE_SHARE = 0.75
_FITTING = ((APPLE, BOOK), (PLANT, DOOR))
"""References that fit into a picture beside a small and a large product."""


def draw_scenes(config: AnnotationsConfig, products: AnnotatedProducts, members: np.ndarray, n: int, rng: np.random.Generator) -> Scenes:
    """Draw n scenes.

    Args:
        config: Mix, difficulty and picture size.
        products: All products.
        members: int64 `[m]`, those that may be shown.
        n: How many.
        rng: Random numbers.
    """
    label = rng.choice(len(LABELS), size=n, p=config.shares())
    product = rng.choice(members, size=n)
    # Only what owns no part can be given one: the label is then seen in the cut-out, not in the kind of part.
    bare = members[products.part[members] == NO_PART]
    grown = label == HALLUCINATION
    if len(bare):
        product[grown] = rng.choice(bare, size=int(grown.sum()))
    part = np.where(grown, rng.integers(LEGS, KNOB + 1, size=n), products.part[product])
    chosen = _Chosen(config, products, product, part, label)
    body, length, line, on_left = _place(chosen, rng)
    reference, height, centre, bottom = _references(chosen, body, length, line, on_left, rng)
    hue, wall, floor = _colours(chosen, rng)
    textures = np.array([TEXTURES.index(name) for name in config.textures])
    clutter = np.where(label == INDISTINCT, rng.choice([MOTLEY, CAMOUFLAGE, NO_CLUTTER], size=n, p=_INDISTINCT_MIX), NO_CLUTTER)
    return Scenes(
        label=label,
        product=product,
        body=body,
        part=part,
        owned=~grown,
        part_length=length,
        part_right=~on_left,
        line=line,
        hue=hue,
        texture=textures[rng.integers(len(textures), size=n)],
        wall=wall,
        floor=floor,
        clutter=clutter,
        reference=reference,
        reference_height=height,
        reference_centre=centre,
        reference_bottom=bottom,
        noise=rng.integers(1 << 32, size=n, dtype=np.uint64),
    )


@dataclass(frozen=True)
class _Chosen:
    """What each picture shows, before it is known where."""

    config: AnnotationsConfig
    products: AnnotatedProducts
    product: np.ndarray
    part: np.ndarray
    label: np.ndarray


def _place(chosen: _Chosen, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bodies, part lengths, the surface's line, and whether the product stands on the left."""
    config, products, product, part, label = chosen.config, chosen.products, chosen.product, chosen.part, chosen.label
    n, side = len(product), config.size
    aspect = np.array([master.width / master.height for master in products.masters])[product]
    height = np.minimum(rng.uniform(0.3, 0.44, n) * side, 0.42 * side / aspect)
    length = np.where(
        part == NO_PART, 0.0, (0.30 - 0.12 * config.difficulty) * np.maximum(height, 0.22 * side) * rng.uniform(0.85, 1.15, n)
    )
    line = rng.uniform(0.58, 0.72, n) * side
    stands = line + rng.uniform(0.05, 0.15, n) * side
    floats = line - (rng.uniform(0.08, 0.2, n) - 0.04 * config.difficulty) * side
    foot = np.where(label == SPACE, floats, stands)
    below = np.where(np.isin(part, (LEGS, BASE)), length, 0.0)
    above = np.where(part == KNOB, length, 0.0)
    height = np.minimum(height, foot - below - above - 0.03 * side)
    width = np.clip(np.round(height * aspect), 2, 0.46 * side)
    height = np.maximum(np.round(height), 2)
    left_side = rng.random(n) < 0.5
    centre = np.where(left_side, rng.uniform(0.3, 0.36, n), rng.uniform(0.64, 0.7, n)) * side
    # An arm points to the nearer border, away from the reference, where there is room for it.
    right = ~left_side
    reach = np.where(part == ARM, length, 0.0)
    low, high = 1 + np.where(left_side, reach, 0) + width / 2, side - 1 - np.where(right, reach, 0) - width / 2
    centre = np.clip(centre, low, np.maximum(low, high))
    x0, y1 = np.round(centre - width / 2), np.round(foot - below)
    body = np.stack([x0, y1 - height, x0 + width, y1], axis=1).astype(np.int64)
    return body, length, line, left_side


def _references(
    chosen: _Chosen, body: np.ndarray, length: np.ndarray, line: np.ndarray, on_left: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kind, height, column and lowest row of each picture's reference.

    In a size mismatch the reference is drawn as it would be beside a product of the other size, so that the picture
    alone, without the title, looks like any other.
    """
    config, products, product, part, label = chosen.config, chosen.products, chosen.product, chosen.part, chosen.label
    n, wrong = len(product), label == SIZE
    own = products.size[product]
    shown_as = np.where(wrong, 1 - own, own)
    kind = np.array(_FITTING)[shown_as, rng.integers(2, size=n)]
    kind[~wrong & (rng.random(n) > _REFERENCE_SHARE)] = NO_REFERENCE
    other = np.array(HEIGHTS_CM)[1 - own]
    true = products.height_cm[product]
    # The dial shrinks the absurdity from 6 times to 3 times.
    seen = np.where(wrong, true * (other / true) ** (1.0 - 0.4 * config.difficulty), true)
    cutout_height = body[:, 3] - body[:, 1] + np.where((part != NO_PART) & (label != HALLUCINATION) & (part != ARM), length, 0.0)
    unit = cutout_height / seen * np.exp(rng.normal(0.0, 0.1, n))
    bottom = np.where(kind == DOOR, line, line + rng.uniform(0.04, 0.16, n) * config.size)
    # What would reach out of the picture gives way to the smaller thing.
    smaller = np.array([fitting[0] for fitting in _FITTING])[shown_as]
    kind = np.where(np.array(REFERENCE_CM)[kind] * unit > bottom - 1, smaller, kind)
    bottom = np.where(kind == DOOR, line, np.maximum(bottom, line + 0.04 * config.size))
    height = np.minimum(np.array(REFERENCE_CM)[kind] * unit, bottom - 1)
    half = reference_width(kind, height) / 2
    edge = np.where(on_left, body[:, 2] + GAP + half, body[:, 0] - GAP - half)
    room = np.where(on_left, config.size - 2 - half - edge, edge - 2 - half)
    shift = rng.random(n) * np.clip(room, 0, None)
    return kind, height, np.where(on_left, edge + shift, edge - shift), bottom


def _colours(chosen: _Chosen, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue word, wall and surface: of a dozen drawn pairs the first that the product stands out from; in some pictures it must not."""
    config, products, product, label = chosen.config, chosen.products, chosen.product, chosen.label
    n, rows = len(product), np.arange(len(product))
    shape = (n, _CANDIDATES)
    hue = rng.integers(len(HUES), size=n)
    spread = (HUE_VALUES[hue][:, None] + rng.uniform(-0.02, 0.02, shape)) % 1.0
    walls = hsv_to_rgb(spread, rng.uniform(0.15, 0.45, shape), rng.uniform(0.55, 0.95, shape)) / 255.0
    floors = hsv_to_rgb(rng.uniform(0.05, 0.15, shape), rng.uniform(0.0, 0.3, shape), rng.uniform(0.25, 0.9, shape)) / 255.0
    tone, rim = products.tone[product], products.rim[product]
    score = np.full(shape, np.inf)
    for colours in (walls, floors):
        for avoided in (tone, rim):
            score = np.minimum(score, np.linalg.norm(colours - avoided[:, None], axis=2))
        for reserved in REFERENCE_COLOURS[1:]:
            score = np.minimum(score, 1.2 * np.linalg.norm(colours - reserved, axis=2))
    score = np.minimum(score, 1.5 * np.linalg.norm(walls - floors, axis=2))
    first = np.where((score > CONTRAST).any(axis=1), (score > CONTRAST).argmax(axis=1), score.argmax(axis=1))
    wall, floor = walls[rows, first], floors[rows, first]
    blends = label == INDISTINCT
    near = rim + rng.normal(0.0, 0.02 + 0.05 * config.difficulty, (n, 3))
    wall[blends] = near[blends]
    # The surface still shows: a step of value, away from the nearer end of the scale.
    step = np.where(near.mean(axis=1) > 0.5, -0.14, 0.14)
    floor[blends] = (near + step[:, None])[blends]
    return hue, np.clip(wall, 0, 1).astype(np.float32), np.clip(floor, 0, 1).astype(np.float32)
