"""Measures behind products, and figures of judged pictures, against hand calculations and independent implementations."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adray.errors import DataError
from adray.simulation.annotations import compose
from adray.simulation.annotations_config import AnnotationsConfig
from adray.simulation.annotations_oracle import measure
from adray.simulation.annotations_products import draw_annotated_products
from adray.simulation.defects import draw_scenes
from adray.simulation.oracle.background import HUE_VALUES, Backgrounds, asked_hues, measure_backgrounds, nearest_hues
from adray.simulation.oracle.diversity import HEADLINE, distances, diversity, kept, mean_distance
from adray.simulation.oracle.figures import gain_figures, inspector_figures, paired_rows, spread, table_figures
from adray.simulation.oracle.judge import Judged


@pytest.fixture(scope="module")
def drawn():
    config = AnnotationsConfig(products=40, size=40, textures=["plain"])
    rng = np.random.default_rng(3)
    products, _ = draw_annotated_products(config, rng)
    scenes = draw_scenes(config, products, np.arange(40), 300, rng)
    made = compose(scenes, products, 40)
    measured = measure(made.pictures, made.cutouts, products.height_cm[scenes.product])
    return scenes, made, measured, measure_backgrounds(made.pictures, made.cutouts, measured.line, measured.reference)


def test_the_hue_that_was_asked_is_found_in_drawn_pictures(drawn):
    scenes, _, _, found = drawn
    good = scenes.label == 0
    assert (asked_hues(scenes.prompts()) == scenes.hue).all()
    assert np.mean(found.hue[good] == scenes.hue[good]) > 0.99
    # Camouflage takes another wall: what the prompt says is then found only by chance.
    assert np.mean(found.hue[scenes.label == 3] == scenes.hue[scenes.label == 3]) < 0.5
    assert np.abs(found.floor[good] - scenes.floor[good]).max(axis=1).mean() < 0.02


def test_things_before_the_wall_and_shading_do_not_change_its_hue(drawn):
    scenes, made, measured, found = drawn
    good = np.flatnonzero(scenes.label == 0)[:20]
    pictures = made.pictures[good].copy()
    pictures[:, 2:6, 2:10] = 0
    pictures[:, :3, 30:] = (250, 0, 0)
    pictures = np.clip(pictures.astype(int) + 8, 0, 255).astype(np.uint8)
    again = measure_backgrounds(pictures, made.cutouts[good], measured.line[good], measured.reference[good])
    assert (again.hue == found.hue[good]).all()


@given(arrays(np.float64, (5, 3), elements=st.floats(0, 1)))
def test_hue_words_are_the_nearest_on_the_circle(colours):
    for colour, word in zip(colours, nearest_hues(colours), strict=True):
        if colour.max() - colour.min() < 0.03:
            assert word == -1
            continue
        hue = colorsys.rgb_to_hsv(*colour)[0]
        away = [min(abs(hue - value), 1 - abs(hue - value)) for value in HUE_VALUES]
        assert away[word] == pytest.approx(min(away), abs=1e-9)


def test_prompts_name_a_hue_in_words():
    prompts = ["Bozo Lamp, Teal room, plain wall", "a pinkish room", "bedroom", None, "red chair, blue room"]
    assert asked_hues(prompts).tolist() == [4, -1, -1, -1, 5]


def backgrounds(n, seed=0):
    rng = np.random.default_rng(seed)
    colours = [rng.random((n, *shape, 3)).astype(np.float32) for shape in ((), (), (8, 8))]
    seen = rng.random((n, 8, 8)) < 0.8
    return Backgrounds(colours[0], colours[1], rng.integers(8, size=n), rng.random(n), rng.integers(5, size=n), colours[2], seen)


def test_diversity_is_the_mean_over_pairs():
    found, asked = backgrounds(7), np.array([0, 0, 1, 1, 1, -1, -1])
    cells, same, walls, kinds = [], [], [], []
    for i in range(7):
        for j in range(i):
            both = found.seen[i] & found.seen[j]
            cells.append(np.sqrt(((found.cells[i] - found.cells[j])[both] ** 2).mean()))
            walls.append(np.sqrt(((found.wall[i] - found.wall[j]) ** 2).mean()))
            kinds.append(found.reference[i] != found.reference[j])
            if asked[i] == asked[j] >= 0:
                same.append(cells[-1])
    figures = diversity(found, asked)
    assert figures[HEADLINE] == pytest.approx(np.mean(cells), rel=1e-5)
    assert figures["/within_colour"] == pytest.approx(np.mean(same), rel=1e-5)
    assert figures["/wall"] == pytest.approx(np.mean(walls), rel=1e-5)
    assert figures["/reference"] == pytest.approx(np.mean(kinds), rel=1e-5)


def test_equal_backgrounds_have_no_diversity_and_halved_contrast_half_of_it():
    found, asked = backgrounds(12), np.zeros(12, np.int64)
    equal = found[np.zeros(12, int)]
    assert diversity(equal, asked)[HEADLINE] == pytest.approx(0, abs=1e-3)
    half = replace(found, cells=0.5 * found.cells)
    groups = np.arange(12) // 2
    new, old = distances(half, asked)[HEADLINE], distances(found, asked)[HEADLINE]
    interval = kept(new, old, groups, 50, 0)
    assert [interval.value, interval.low, interval.high] == pytest.approx([0.5] * 3, rel=1e-4)
    assert interval.groups == 6
    noisy = replace(found, cells=found.cells * np.linspace(0.2, 1, 12)[:, None, None, None].astype(np.float32))
    interval = kept(distances(noisy, asked)[HEADLINE], old, groups, 50, 0)
    assert interval.low < interval.value < interval.high < 1
    assert interval.value == pytest.approx(diversity(noisy, asked)[HEADLINE] / diversity(found, asked)[HEADLINE])


def test_pictures_that_share_no_background_are_no_pair():
    found = backgrounds(3)
    seen = np.zeros((3, 8, 8), bool)
    seen[0, :, :4] = seen[1, :, 4:] = seen[2] = True
    found = replace(found, seen=seen)
    cells, pairs = distances(found, np.zeros(3, np.int64))[HEADLINE]
    assert pairs.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert mean_distance((cells, pairs)) == pytest.approx((cells[0, 2] + cells[1, 2]) / 2)
    assert np.isnan(mean_distance((cells, np.zeros_like(pairs))))


def judged(labels, skus=None, hues=None, asked=None, keys=None, truth=None, accepted=False):
    n = len(labels)
    found = backgrounds(n)
    found = replace(found, hue=np.array(hues if hues is not None else [0] * n))
    skus = skus or [f"p{i}" for i in range(n)]
    none = np.full(n, -1)
    asked, truth = (none if part is None else np.array(part) for part in (asked, truth))
    return Judged([f"a{i}" for i in range(n)], skus, keys or skus, np.array(labels), truth, np.zeros(n, bool) | accepted, asked, found)


def test_rates_by_hand():
    table = judged([0, 0, 0, 2], ["x", "x", "y", "y"], hues=[1, 1, 3, 4], asked=[1, 2, 3, -1], truth=[0, 1, 0, -1])
    figures = table_figures(table, 200, 0, 100)
    assert figures["oracle/available"] == 0.75
    assert figures["oracle/share/size_mismatch"] == 0.25
    assert figures["oracle/prompt_obeyed"] == pytest.approx(2 / 3)
    assert figures["oracle/prompt_obeyed_available"] == pytest.approx(2 / 3)
    assert figures["oracle/agreement"] == pytest.approx(2 / 3)
    assert figures["oracle/prompt_obeyed_labelled_available"] == 1.0
    # Two products: a draw of one of them alone has 2 of 2, or 1 of 2.
    assert (figures["oracle/available_low"], figures["oracle/available_high"]) == (0.5, 1.0)
    assert (figures["oracle/pictures"], figures["oracle/products"], figures["oracle/prompts"]) == (4, 2, 3)
    assert "oracle/available_of_accepted" not in figures
    taken = judged([0, 0, 1, 2], accepted=np.array([True, False, True, False]))
    figures = table_figures(taken, 200, 0, 100)
    assert (figures["oracle/accepted"], figures["oracle/available_of_accepted"]) == (0.5, 0.5)


def test_gains_are_paired_by_request():
    table = judged([0, 0, 1, 0], ["a", "b", "c", "d"], hues=[1, 1, 1, 1], asked=[1, 1, 1, 1])
    before = judged([0, 1, 1, 0], ["b", "c", "a", "z"], hues=[1, 2, 2, 2], asked=[1, 1, 1, 1])
    figures = gain_figures(table, before, 500, 0, 100)
    # a: 0 -> 1, b: stays available, c: stays refused; d and z have no partner.
    assert figures["oracle/available_gain"] == pytest.approx(1 / 3)
    assert figures["oracle/available_gain_low"] == 0.0
    # A draw has a one, two or three times in 44, 22 and 4 of 100 cases.
    assert 2 / 3 <= figures["oracle/available_gain_high"] <= 1.0
    assert figures["oracle/prompt_obeyed_gain"] == pytest.approx(2 / 3)
    assert (figures["oracle/pairs"], figures["oracle/unpaired"], figures["oracle/baseline/available"]) == (3, 2, pytest.approx(1 / 3))
    same = gain_figures(table, table, 50, 0, 100)
    assert same["oracle/diversity_kept"] == same["oracle/diversity_kept_low"] == 1.0
    assert same["oracle/available_gain_high"] == 0.0


def test_requests_that_cannot_be_paired_are_named():
    with pytest.raises(DataError, match=r"request 'x' occurs 2 times in data.baseline"):
        paired_rows(["x", "y"], ["x", "x"])
    with pytest.raises(DataError, match=r"no request of data.pictures is in data.baseline, e.g. 'x' is not"):
        paired_rows(["x"], ["y"])
    with pytest.raises(DataError, match="a request for product 'a' is for another"):
        gain_figures(judged([0], ["a"], keys=["k"]), judged([0], ["b"], keys=["k"]), 5, 0, 5)


def test_an_inspectors_agreement_by_hand():
    table = judged([0, 0, 1, 2])
    verdicts = {"a0": ("available", True), "a1": ("size_mismatch", False), "a2": ("available", True), "a3": ("space_mismatch", False)}
    figures = inspector_figures(table, verdicts)
    assert figures["oracle/inspector/agreement"] == 0.25
    assert figures["oracle/inspector/binary_agreement"] == 0.5
    assert figures["oracle/inspector/precision"] == figures["oracle/inspector/recall"] == figures["oracle/inspector/f1"] == 0.5
    assert inspector_figures(table, {"a0": ("available", True)})["oracle/inspector/pictures"] == 1
    with pytest.raises(DataError, match="none of the 1 verdicts is on one of the pictures, e.g. 'a0'"):
        inspector_figures(table, {"b": ("available", True)})


def test_rows_are_spread_evenly():
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 10).tolist() == [0, 1, 2]
