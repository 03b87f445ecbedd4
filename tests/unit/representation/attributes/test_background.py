"""The background's colour on drawn canvases, whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from adray.representation.attributes.background import measure_background
from adray.representation.attributes.colour_space import ciede2000, rgb_to_lab
from adray.representation.attributes.palette import NAMES, PALETTE, nearest_name


def rgb(code: str) -> tuple[int, int, int]:
    return tuple(int(code[i : i + 2], 16) for i in (0, 2, 4))


def canvas(code: str, size=(320, 280)) -> Image.Image:
    return Image.new("RGB", size, rgb(code))


def drawn(code: str, rng: np.random.Generator) -> tuple[np.ndarray, list[list[float]]]:
    """A canvas with a centred object of 10 to 60 % of the area, one or two texts, and JPEG-like noise; and the texts' boxes."""
    width, height = (int(v) for v in rng.integers(120, 700, 2))
    image = canvas(code, (width, height))
    pen = ImageDraw.Draw(image)
    side = np.sqrt(rng.uniform(0.1, 0.6))
    box = [width * (1 - side) / 2, height * (1 - side) / 2, width * (1 + side) / 2, height * (1 + side) / 2]
    fill = tuple(int(v) for v in rng.integers(0, 256, 3))
    getattr(pen, str(rng.choice(["rectangle", "ellipse"])))(box, fill=fill)
    polygons = []
    for _ in range(int(rng.integers(1, 3))):
        x, y = rng.uniform(0, width * 0.6), rng.uniform(0, height * 0.9)
        pen.text((x, y), "SALE 30% OFF", fill=tuple(int(v) for v in rng.integers(0, 256, 3)), font_size=max(8, height // 12))
        left, top, right, bottom = pen.textbbox((x, y), "SALE 30% OFF", font_size=max(8, height // 12))
        polygons.append([left, top, right, top, right, bottom, left, bottom])
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1))))
    noisy = np.asarray(image, np.int16) + rng.normal(0, 2, (height, width, 1)).round().astype(np.int16)
    return noisy.clip(0, 255).astype(np.uint8), polygons


def test_the_palette_has_sixteen_names_that_each_name_themselves():
    assert len(PALETTE) == 16 == len({c.name for c in PALETTE}) == len({c.chinese for c in PALETTE})
    for colour in PALETTE:
        for code in colour.anchors:
            assert nearest_name(rgb_to_lab(np.array(rgb(code), np.uint8)))[0] == colour.name


@pytest.mark.parametrize("mask_texts", [True, False])
def test_names_of_drawn_canvases(mask_texts):
    rng = np.random.default_rng(0)
    wrong = []
    total = 0
    for colour in PALETTE:
        for _ in range(5):
            picture, polygons = drawn(colour.anchors[0], rng)
            found = measure_background(picture, polygons if mask_texts else ())
            total += 1
            if found.name != colour.name:
                wrong.append((colour.name, found))
            else:
                truth = rgb_to_lab(np.array(rgb(colour.anchors[0]), np.uint8))
                assert ciede2000(np.array(found.lab), truth) < 2.0
    assert total == 80
    assert len(wrong) <= 0.05 * total, wrong


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.59])
@pytest.mark.parametrize("code", ["ffffff", "14214f", "ff8c00", "2e9e44"])
def test_a_centred_object_changes_nothing(code, share):
    plain = canvas(code)
    alone = measure_background(np.asarray(plain))
    pen = ImageDraw.Draw(plain)
    side = share**0.5
    pen.rectangle([320 * (1 - side) / 2, 280 * (1 - side) / 2, 320 * (1 + side) / 2, 280 * (1 + side) / 2], fill=(120, 60, 90))
    found = measure_background(np.asarray(plain))
    assert (found.name, found.lab, found.border_share) == (alone.name, alone.lab, 1.0)
    assert found.coverage == pytest.approx(1 - share, abs=0.02)
    assert found.confidence > 0.5


def test_an_object_of_nearly_the_same_colour_is_not_flooded_over_a_soft_edge():
    """A step between neighbours would walk from white to black down a blurred edge."""
    image = canvas("ffffff", (256, 256))
    ImageDraw.Draw(image).ellipse([60, 60, 196, 196], fill=(0, 0, 0))
    found = measure_background(np.asarray(image.filter(ImageFilter.GaussianBlur(24))))
    assert found.name == "white" and found.coverage < 0.75


def test_only_what_is_joined_to_the_border_counts():
    image = canvas("ffffff", (200, 200))
    pen = ImageDraw.Draw(image)
    pen.rectangle([40, 40, 160, 160], fill=(200, 0, 0))
    pen.rectangle([60, 60, 140, 140], fill=(255, 255, 255))
    assert measure_background(np.asarray(image)).coverage == pytest.approx(1 - (121 / 200) ** 2, abs=0.01)


def test_a_product_mask_and_texts_are_left_out():
    """A banner over the upper part of the border: with its mask the rest decides."""
    image = canvas("2e9e44", (200, 200))
    ImageDraw.Draw(image).rectangle([0, 0, 200, 150], fill=(224, 27, 36))
    banner = [0, 0, 200, 0, 200, 151, 0, 151]
    assert measure_background(np.asarray(image)).name == "complex"
    assert measure_background(np.asarray(image), [banner]).name == "green"
    mask = np.zeros((200, 200), bool)
    mask[:152] = True
    assert measure_background(np.asarray(image), (), mask).name == "green"
    everything = [0, 0, 200, 0, 200, 200, 0, 200]
    hidden = measure_background(np.asarray(image), [everything])
    assert (hidden.name, hidden.source, hidden.confidence, hidden.lab) == ("unknown", "none", 0.0, ())


def test_many_colours_are_complex():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(32, 0).repeat(32, 1)
    found = measure_background(blocks)
    assert found.name == "complex" and found.border_share < 0.5
    # A black to white ramp around the border: no half of it has one colour.
    ramp = np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    assert measure_background(ramp).name == "complex"


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (100, 20_000), (2000, 3)])
def test_any_size(shape):
    found = measure_background(np.full((*shape, 3), 255, np.uint8))
    assert found.name == "white" and found.border_share == 1.0
    assert found.name in NAMES


def test_two_tones_of_one_name_are_one_colour():
    """Stripes of two pinks, half and half: neither tone has half of the border, the name has all of it."""
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:] = rgb("fde4ea")
    stripes[:, np.arange(200) % 40 < 20] = rgb("ffb6c1")
    found = measure_background(stripes)
    assert found.name == "pink" and found.border_share == 1.0
    tones = [ciede2000(np.array(found.lab), rgb_to_lab(np.array(rgb(code), np.uint8))) for code in ("fde4ea", "ffb6c1")]
    assert min(tones) < 2.0
    # Two names, half and half, are none.
    stripes[:, np.arange(200) % 40 < 20] = rgb("2e9e44")
    assert measure_background(stripes).name == "complex"


def test_the_area_under_texts_is_not_counted():
    plain = np.asarray(canvas("ffffff", (200, 200)))
    box = [50, 50, 149, 50, 149, 149, 50, 149]
    assert measure_background(plain).coverage == 1.0
    # 100 x 100 of 200 x 200 pixels, and a rim of one.
    assert measure_background(plain, [box]).coverage == pytest.approx(1 - 102**2 / 200**2)


def test_three_pale_names_are_none():
    """They look alike, so the dispersion is small; but none has half of the border."""
    bands = np.zeros((210, 210, 3), np.uint8)
    for i, code in enumerate(("ffffff", "f5e6c8", "c8e6fa")):
        bands[:, 70 * i : 70 * (i + 1)] = rgb(code)
    found = measure_background(bands)
    assert found.name == "complex" and found.border_share < 0.5 and found.dispersion <= 15.0
