from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.errors import ConfigError
from adray.simulation.catalogue import LATE, UNLOGGED, WARM, copy_text, draw_creatives, draw_products
from adray.simulation.config import WorldConfig
from adray.simulation.vocabulary import CATEGORIES, ELEMENTS, SELLING_POINTS, SLOTS, TITLES


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    skus=st.integers(1, 60),
    low=st.integers(2, 5),
    more=st.integers(0, 30),
    share=st.floats(0.0, 0.15),
    unlogged=st.floats(0.0, 1.0),
)
def test_creatives_of_any_world(seed: int, skus: int, low: int, more: int, share: float, unlogged: float) -> None:
    config = WorldConfig(skus=skus, creatives_per_sku=(low, low + more), cold_start_share=share, cold_start_unlogged=unlogged)
    try:
        creatives = draw_creatives(config, np.random.default_rng(seed))
    except ConfigError as error:
        assert "cold_start_share" in str(error)
        return
    counts = np.diff(creatives.offsets)
    assert counts.min() >= low and counts.max() <= low + more
    assert len(creatives) == creatives.offsets[-1] == len(np.unique(creatives.ids()))
    assert all(creatives.elements[:, i].max() < len(ELEMENTS[slot]) for i, slot in enumerate(SLOTS))
    for sku in range(skus):
        rows = slice(creatives.offsets[sku], creatives.offsets[sku + 1])
        assert (creatives.sku[rows] == sku).all()
        assert len(np.unique(creatives.elements[rows], axis=0)) == counts[sku]
        assert (np.diff(creatives.entry[rows]) >= 0).all()
        assert (creatives.entry[rows] == WARM).sum() >= 2
        for entry in (WARM, LATE, UNLOGGED):
            assert creatives.offered(entry)[sku] == (creatives.entry[rows] <= entry).sum()
    cold = round(share * len(creatives))
    assert (creatives.entry != WARM).sum() == cold
    assert (creatives.entry == UNLOGGED).sum() == round(unlogged * cold)


def test_combinations_are_distinct_even_when_nearly_all_are_used() -> None:
    from adray.simulation.catalogue import _distinct_within

    drawn = _distinct_within(np.repeat([0, 1], 10), 10, np.random.default_rng(0))
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))


def test_more_cold_creatives_than_possible_are_refused() -> None:
    config = WorldConfig(creatives_per_sku=(2, 4), cold_start_share=0.9)
    with pytest.raises(ConfigError, match=r"cold_start_share.*is 0.9.*at most 0\.3"):
        draw_creatives(config, np.random.default_rng(0))


def test_copy_holds_the_products_words() -> None:
    config = WorldConfig(skus=30)
    products = draw_products(config, np.random.default_rng(0))
    creatives = draw_creatives(config, np.random.default_rng(1))
    seen = set()
    for creative in range(len(creatives)):
        sku = creatives.sku[creative]
        elements = creatives.named_elements(creative)
        title, selling_point = copy_text(products, creatives, creative)
        assert "{" not in title + selling_point
        category = CATEGORIES[products.category[sku]]
        if "{noun}" in TITLES[elements["title"]]:
            assert any(noun in title for noun in category.nouns)
        if "{price}" in SELLING_POINTS[elements["selling_point"]]:
            assert selling_point == f"Only ${products.price[sku]:.0f}"
        seen |= set(elements.items())
    assert len(seen) == sum(map(len, ELEMENTS.values()))


def test_prices_follow_their_category() -> None:
    products = draw_products(WorldConfig(skus=6000), np.random.default_rng(0))
    for index, category in enumerate(CATEGORIES):
        assert np.median(products.price[products.category == index]) == pytest.approx(category.price, rel=0.12)
