"""Rendering all pictures of a world, in this process or in a pool; the bytes are the same."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from adray.simulation.artwork import Look, draw_cutout
from adray.simulation.catalogue import Creatives, Products, copy_text
from adray.simulation.config import WorldConfig
from adray.simulation.rendering import Design, encode, render
from adray.simulation.vocabulary import BADGES, CATEGORIES

_CHUNK_SKUS = 32

Pictures = tuple[list[bytes], list[bytes]]
"""Cut-outs (PNG), one a SKU, and creatives in the configured format."""


def render_world(config: WorldConfig, products: Products, creatives: Creatives) -> Pictures:
    """Render all cut-outs and creatives.

    Args:
        config: Size, format and number of processes.
        products: S products.
        creatives: Their C creatives.

    Returns:
        S cut-outs and C creatives as files' bytes.
    """
    chunks = list(_chunks(config, products, creatives))
    if config.image_workers == 1:
        done = [_render_chunk(chunk) for chunk in chunks]
    else:
        # Spawned, not forked: a forked child of a process with threads (Ray, torch) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(config.image_workers, len(chunks)), mp_context=context) as pool:
            done = list(pool.map(_render_chunk, chunks))
    return [c for cutouts, _ in done for c in cutouts], [p for _, pictures in done for p in pictures]


Chunk = tuple[int, str, list[tuple[str, Look, list[dict[str, str]]]]]


def _chunks(config: WorldConfig, products: Products, creatives: Creatives) -> Iterator[Chunk]:
    for start in range(0, len(products), _CHUNK_SKUS):
        skus = range(start, min(start + _CHUNK_SKUS, len(products)))
        yield config.image_size, config.image_format, [_recipe(products, creatives, sku) for sku in skus]


def _recipe(products: Products, creatives: Creatives, sku: int) -> tuple[str, Look, list[dict[str, str]]]:
    main, accent = (tuple(map(int, colour)) for colour in products.colours[sku])
    look = Look(main, accent, float(products.shape[sku]))  # type: ignore[arg-type]
    designs = []
    for creative in np.arange(creatives.offsets[sku], creatives.offsets[sku + 1]):
        elements = creatives.named_elements(int(creative))
        title, selling_point = copy_text(products, creatives, int(creative))
        words = {"title": title, "selling_point": selling_point, "badge": BADGES[elements["badge"]]}
        designs.append({"background": elements["background"], "layout": elements["layout"], **words})
    return CATEGORIES[products.category[sku]].name, look, designs


def _render_chunk(chunk: Chunk) -> Pictures:
    size, form, recipes = chunk
    cutouts, pictures = [], []
    for category, look, designs in recipes:
        cutout = draw_cutout(category, look, size)
        cutouts.append(encode(cutout, "png"))
        pictures += [encode(render(Design(cutout=cutout, **design), size).image, form) for design in designs]
    return cutouts, pictures
