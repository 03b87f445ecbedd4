"""Products and creatives of a world, as arrays. Creatives of a SKU are contiguous, cold-start ones last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adray.errors import ConfigError
from adray.simulation.config import WorldConfig
from adray.simulation.vocabulary import BRANDS, CATEGORIES, ELEMENTS, SELLING_POINTS, SLOTS, TITLES

WARM, LATE, UNLOGGED = 0, 1, 2
"""When a creative is first offered: from the start, late in the log, in requests only."""


@dataclass(frozen=True)
class Products:
    """S products.

    Attributes:
        category: int64 `[S]`, index into `CATEGORIES`.
        brand: int64 `[S]`, index into `BRANDS`.
        noun: int64 `[S]`, index into the category's nouns.
        price: float64 `[S]`, rounded to cents.
        popularity: float64 `[S]`, relative weight of being shown within the category.
        colours: uint8 `[S, 2, 3]`, main and accent RGB of the drawn product.
        shape: float64 `[S]` in [-1, 1], proportions of the drawn product.
    """

    category: np.ndarray
    brand: np.ndarray
    noun: np.ndarray
    price: np.ndarray
    popularity: np.ndarray
    colours: np.ndarray
    shape: np.ndarray

    def __len__(self) -> int:
        return len(self.category)

    def ids(self) -> list[str]:
        """SKU ids."""
        return [f"s{i:06d}" for i in range(len(self))]

    def words(self, sku: int) -> dict[str, str]:
        """What copy templates may say about a product: brand, noun, price."""
        category = CATEGORIES[self.category[sku]]
        return {"brand": BRANDS[self.brand[sku]], "noun": category.nouns[self.noun[sku]], "price": f"{self.price[sku]:.0f}"}


@dataclass(frozen=True)
class Creatives:
    """C creatives of S products.

    Attributes:
        sku: int64 `[C]`, non-decreasing.
        elements: int64 `[C, slots]`, index into `ELEMENTS[slot]`.
        entry: int8 `[C]`, WARM, LATE or UNLOGGED; non-decreasing within a SKU.
        offsets: int64 `[S + 1]`; SKU s owns creatives `offsets[s]:offsets[s + 1]`.
    """

    sku: np.ndarray
    elements: np.ndarray
    entry: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.sku)

    def ids(self) -> list[str]:
        """Creative ids."""
        return [f"c{i:07d}" for i in range(len(self))]

    def offered(self, last_entry: int) -> np.ndarray:
        """How many of each SKU's creatives are on offer once `last_entry` has entered: int64 `[S]`, a prefix of its list."""
        counts: np.ndarray = np.bincount(self.sku, weights=self.entry <= last_entry, minlength=len(self.offsets) - 1).astype(np.int64)
        return counts

    def named_elements(self, creative: int) -> dict[str, str]:
        """Slot -> element of one creative."""
        return {slot: ELEMENTS[slot][e] for slot, e in zip(SLOTS, self.elements[creative], strict=True)}


def draw_products(config: WorldConfig, rng: np.random.Generator) -> Products:
    """Draw products: uniform category and brand, log-normal price and popularity."""
    n = config.skus
    category = rng.integers(len(CATEGORIES), size=n)
    median = np.array([c.price for c in CATEGORIES])[category]
    return Products(
        category=category,
        brand=rng.integers(len(BRANDS), size=n),
        noun=rng.integers(min(len(c.nouns) for c in CATEGORIES), size=n),
        price=np.round(median * np.exp(rng.normal(0.0, 0.4, n)), 2),
        popularity=np.exp(rng.normal(0.0, 0.7, n)),
        colours=hsv_to_rgb(rng.random((n, 2)), rng.uniform(0.45, 0.9, (n, 2)), rng.uniform(0.55, 0.9, (n, 2))),
        shape=rng.uniform(-1.0, 1.0, n),
    )


def hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """HSV in [0, 1] to RGB: uint8 `[..., 3]`."""
    k = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue[..., None]) % 6.0
    chroma = saturation[..., None] * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    return np.asarray(255.0 * value[..., None] * (1.0 - chroma)).astype(np.uint8)


def draw_creatives(config: WorldConfig, rng: np.random.Generator) -> Creatives:
    """Draw creatives: distinct element combinations within a SKU; cold-start ones only where two others stay.

    Raises:
        ConfigError: If `cold_start_share` asks for more cold creatives than leave two warm ones in every SKU.
    """
    low, high = config.creatives_per_sku
    counts = rng.integers(low, high + 1, size=config.skus)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    sku = np.repeat(np.arange(config.skus), counts)
    sizes = tuple(len(ELEMENTS[slot]) for slot in SLOTS)
    combination = _distinct_within(sku, int(np.prod(sizes)), rng)
    elements = np.stack(np.unravel_index(combination, sizes), axis=1)
    return Creatives(sku, elements, _draw_entry(config, sku, offsets, rng), offsets)


def _distinct_within(groups: np.ndarray, choices: int, rng: np.random.Generator) -> np.ndarray:
    """One of `choices` for each item, none twice within a group; repeats are redrawn until there are none."""
    drawn = rng.integers(choices, size=len(groups))
    while True:
        key = groups * choices + drawn
        order = np.argsort(key, kind="stable")
        repeated = order[1:][np.diff(key[order]) == 0]
        if not len(repeated):
            return drawn
        drawn[repeated] = rng.integers(choices, size=len(repeated))


def _draw_entry(config: WorldConfig, sku: np.ndarray, offsets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wanted = round(config.cold_start_share * len(sku))
    # The first two of every SKU stay warm, so that the training part always has a choice to learn from.
    eligible = np.flatnonzero(np.arange(len(sku)) - offsets[sku] >= 2)
    if wanted > len(eligible):
        raise ConfigError(
            f"field 'world.cold_start_share' is {config.cold_start_share}, but two creatives of every SKU must stay warm",
            f"set it to at most {len(eligible) / len(sku):.2f}, or raise world.creatives_per_sku",
        )
    cold = rng.permutation(eligible)[:wanted]
    entry = np.full(len(sku), WARM, dtype=np.int8)
    unlogged = round(config.cold_start_unlogged * wanted)
    entry[cold[:unlogged]] = UNLOGGED
    entry[cold[unlogged:]] = LATE
    # Cold ones last within their SKU: what is on offer at any time is then a prefix of the SKU's list.
    return entry[np.lexsort((entry, sku))]


def copy_text(products: Products, creatives: Creatives, creative: int) -> tuple[str, str]:
    """Title and selling point of a creative with its product's words filled in."""
    words = products.words(int(creatives.sku[creative]))
    elements = creatives.named_elements(creative)
    return TITLES[elements["title"]].format(**words), SELLING_POINTS[elements["selling_point"]].format(**words)
