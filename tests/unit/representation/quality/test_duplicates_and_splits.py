"""Near-duplicates are found by what the eye sees; splits keep what belongs together."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from adray.representation.quality.duplicates import Fingerprints, dhash, fingerprints, first_of_each, phash
from adray.representation.quality.splits import held_out_skus, query_rows


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    canvas = Image.new("RGB", (160, 120), tuple(rng.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(canvas)
    for _ in range(6):
        x, y = rng.integers(0, 120, 2).tolist()
        w, h = rng.integers(20, 80, 2).tolist()
        draw.rectangle((x, y, x + w, y + h), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return np.asarray(canvas)


def again(pixels: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((131, 97)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


@pytest.mark.parametrize("hashed", [dhash, phash])
def test_hashes_survive_scaling_and_compression_and_tell_pictures_apart(hashed):
    pictures = [picture(i) for i in range(30)]
    same = [distance(hashed(p), hashed(again(p, 60))) for p in pictures]
    other = [distance(hashed(pictures[i]), hashed(pictures[j])) for i in range(30) for j in range(i)]
    assert np.mean(np.array(same) <= 4) > 0.9
    assert np.median(other) > 20


def test_dhash_of_a_ramp_is_all_ones_and_of_its_mirror_none():
    ramp = np.repeat(np.repeat(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], 80, 0), 3, 2)
    assert dhash(ramp) == 2**64 - 1
    assert dhash(ramp[:, ::-1]) == 0


def test_copies_go_and_the_first_stays():
    a, b = picture(1), picture(2)
    kept = first_of_each(fingerprints([a, b, again(a, 70), a, b], ["x"] * 5), bits=4, colour=8)
    assert kept.tolist() == [True, True, False, False, False]


def test_what_resembles_only_a_row_that_went_stays():
    hashes = np.array([0, 0b1111, 0b1111_1111], np.uint64)
    prints = Fingerprints(hashes, hashes, np.zeros((3, 8, 8, 3), np.uint8), np.ones(3, bool), ["x"] * 3)
    assert first_of_each(prints, bits=4, colour=8).tolist() == [True, False, True]
    assert first_of_each(prints, bits=3, colour=8).all()


def test_a_colour_variant_is_another_creative():
    a = picture(3)
    tinted = a.astype(np.int16)
    tinted[:, :, 2] = np.clip(tinted[:, :, 2] + 90, 0, 255)
    kept = first_of_each(fingerprints([a, tinted.astype(np.uint8)], ["x", "x"]), bits=12, colour=8)
    assert kept.all()


def test_without_pictures_equal_copy_is_a_duplicate():
    kept = first_of_each(fingerprints([None, None, None], ["Big  Sale", "big sale ", "small sale"]), bits=4, colour=8)
    assert kept.tolist() == [True, False, True]


def test_held_out_skus_are_a_share_that_depends_on_the_id_alone():
    skus = [f"s{i}" for i in range(4000)]
    flags = held_out_skus(skus, 0.25, seed=3)
    assert flags.mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(held_out_skus(skus[::-1], 0.25, seed=3), flags[::-1])
    assert (held_out_skus(skus, 0.25, seed=4) != flags).any()


def test_splits():
    skus = [f"s{i // 4}" for i in range(400)]
    ids = [f"c{i}" for i in range(400)]
    times = np.arange(400) // 10
    found = query_rows(skus, ids, times, 0.3, 0)
    whole = {sku: set(found["new_sku"][[i for i, s in enumerate(skus) if s == sku]].tolist()) for sku in set(skus)}
    assert all(len(sides) == 1 for sides in whole.values())
    assert times[found["new_time"]].min() > times[~found["new_time"]].max()
    assert found["new_time"].mean() == pytest.approx(0.3, abs=0.03)
    assert "new_time" not in query_rows(skus, ids, np.zeros(400, np.int64), 0.3, 0)
