from __future__ import annotations

import io
import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from adray.simulation.artwork import Look, draw_cutout
from adray.simulation.backdrops import backdrop
from adray.simulation.rendering import LAYOUTS, Design, encode, font, render, wrap
from adray.simulation.vocabulary import BACKGROUNDS, BADGES, CATEGORIES
from adray.simulation.vocabulary import LAYOUTS as LAYOUT_ELEMENTS

LOOK = Look((200, 60, 40), (40, 90, 200), 0.3)
CUTOUT = draw_cutout("mug", LOOK, 96)
DESIGN = Design("ocean", "stacked", "Premium Mug", "Free shipping", "SALE", CUTOUT)


def changed(a: Image.Image, b: Image.Image) -> tuple[int, int, int, int] | None:
    return ImageChops.difference(a, b).getbbox()


def contrast(image: Image.Image) -> float:
    grey = np.asarray(image.convert("L"), dtype=float)
    return float(np.percentile(grey, 95) - np.percentile(grey, 5))


@pytest.mark.parametrize("category", [c.name for c in CATEGORIES])
def test_every_product_is_a_shape_on_a_transparent_ground(category: str) -> None:
    cutout = draw_cutout(category, LOOK, 64)
    alpha = np.asarray(cutout)[..., 3]
    assert cutout.size == (64, 64)
    assert 0.15 < (alpha > 128).mean() < 0.85
    assert not alpha[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    other = draw_cutout(category, replace(LOOK, main=(30, 160, 60)), 64)
    assert changed(cutout.convert("RGB"), other.convert("RGB"))


def test_categories_and_backgrounds_can_be_told_apart() -> None:
    cutouts = [np.asarray(draw_cutout(c.name, LOOK, 64))[..., 3] > 128 for c in CATEGORIES]
    for a, b in combinations(cutouts, 2):
        assert (a & b).sum() / (a | b).sum() < 0.93
    grounds = [np.asarray(backdrop(name, 48), dtype=float) for name in BACKGROUNDS]
    for a, b in combinations(grounds, 2):
        assert np.abs(a - b).mean() > 8.0


@pytest.mark.parametrize("layout", LAYOUT_ELEMENTS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_each_part_shows_in_its_box_and_only_there(layout: str, background: str) -> None:
    design = replace(DESIGN, layout=layout, background=background)
    full = render(design, 96)
    assert full.image.size == (96, 96) and full.image.mode == "RGB"
    others = {"title": replace(design, title="Everyday Cup"), "selling_point": replace(design, selling_point="Few left")}
    others["badge"] = replace(design, badge="NEW")
    for part, other in others.items():
        left, top, right, bottom = full.boxes[part]
        assert 0 <= left < right <= 96 and 0 <= top < bottom <= 96
        difference = changed(full.image, render(other, 96).image)
        assert difference is not None
        assert left <= difference[0] and top <= difference[1] and difference[2] <= right and difference[3] <= bottom
        assert contrast(full.image.crop(full.boxes[part])) > 60
    blank = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    assert changed(full.image, render(replace(design, cutout=blank), 96).image)


def test_no_badge_no_box() -> None:
    assert "badge" not in render(replace(DESIGN, badge=BADGES["none"]), 96).boxes


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.text("abcdefgh$%", min_size=1, max_size=9), min_size=1, max_size=5),
    width=st.integers(20, 90),
    lines=st.integers(1, 3),
)
def test_wrapping_keeps_all_words_and_the_width(words: list[str], width: int, lines: int) -> None:
    rows = wrap(" ".join(words), 9, width, lines)
    if rows is None:
        longest = max(font(9).getlength(word) for word in words)
        assert longest > width or font(9).getlength(" ".join(words)) > width
    else:
        assert " ".join(rows) == " ".join(words)
        assert len(rows) <= lines
        assert max(font(9).getlength(row) for row in rows) <= width


def test_a_line_is_broken_as_soon_as_it_is_too_long() -> None:
    whole = math.ceil(font(9).getlength("Free shipping"))
    assert wrap("Free shipping", 9, whole, 2) == ["Free shipping"]
    assert wrap("Free shipping", 9, whole - 2, 2) == ["Free", "shipping"]
    assert wrap("Free shipping", 9, whole - 2, 1) is None


@pytest.mark.parametrize("size", [48, 96, 200])
def test_any_size_renders(size: int) -> None:
    for layout in LAYOUTS:
        assert render(replace(DESIGN, layout=layout), size).image.size == (size, size)


@pytest.mark.parametrize("form", ["jpeg", "webp", "png"])
def test_encoded_pictures_decode_to_nearly_the_same(form: str) -> None:
    image = render(DESIGN, 96).image
    data = encode(image, form)
    assert data == encode(image, form)
    with Image.open(io.BytesIO(data)) as decoded:
        assert decoded.format == form.upper()
        error = np.abs(np.asarray(decoded.convert("RGB"), float) - np.asarray(image, float)).mean()
    # WebP keeps colours at half the resolution only, which shows at the edges of text.
    assert error < {"png": 0.01, "jpeg": 4.0, "webp": 8.0}[form]
