"""Where products are laid: the published rules by hand calculation, and what must hold for every cut-out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adray.data.images import ImageRowError, decode_image
from adray.generation.placement import PlacementConfig, bounding_box, place, stand, with_alpha
from tests.helpers.edge_cutouts import CREAM, drawn, edge_cutouts, encoded

CASES = sorted(edge_cutouts())


def box_of(canvas: np.ndarray) -> tuple[int, int, int, int]:
    return bounding_box(canvas[..., 3])


def test_the_bounding_box_starts_at_an_alpha_of_one_half():
    alpha = np.zeros((6, 8), np.uint8)
    alpha[1:5, 2:7] = 127
    alpha[2:4, 3:6] = 128
    assert bounding_box(alpha) == (3, 2, 6, 4)


def test_a_product_is_fitted_into_its_share_of_the_canvas_and_centred():
    """A 150 x 730 product in a box of 0.7 x 512 = 358: scale 358 / 730, so 74 x 358, from (512 - 74) / 2 and (512 - 358) / 2."""
    canvas = place(drawn(400, 800, (120, 30, 270, 760)), PlacementConfig())
    assert canvas.shape == (512, 512, 4)
    assert box_of(canvas) == (219, 77, 293, 435)


def test_a_small_product_is_enlarged():
    canvas = place(drawn(50, 50, (0, 0, 10, 20)), PlacementConfig(size=100, image_scale=0.8))
    assert box_of(canvas) == (30, 10, 70, 90)


def test_a_product_of_the_right_size_keeps_its_pixels():
    product = drawn(300, 200, (17, 33, 87, 73))
    canvas = place(product, PlacementConfig(size=100))
    np.testing.assert_array_equal(canvas[30:70, 15:85], product[33:73, 17:87])
    assert canvas.sum() == product[33:73, 17:87].astype(int).sum()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((40, 0, 80, 70), (20, 0, 40, 35)),
        ((0, 40, 60, 100), (0, 20, 30, 50)),
        ((60, 50, 120, 120), (30, 25, 60, 60)),
        # Touches nothing: the usual rule, box 0.7 x 60 = 42.
        ((30, 30, 90, 90), (9, 9, 51, 51)),
    ],
)
def test_with_matting_a_product_at_a_border_is_only_resized(box, expected):
    assert box_of(place(drawn(120, 120, box), PlacementConfig(size=60, matting=True))) == expected


def test_with_matting_a_picture_that_is_not_square_stays_at_its_border():
    """200 x 100 becomes 60 x 30; a product at the bottom keeps that border: 30 rows lie above."""
    canvas = place(drawn(200, 100, (80, 40, 120, 100)), PlacementConfig(size=60, matting=True))
    assert box_of(canvas) == (24, 42, 36, 60)


@pytest.mark.parametrize(
    ("size", "multiple", "shape"),
    [(512, 64, (512, 704)), (512, 1, (512, 683)), (40, 10, (40, 50)), (40, 5, (40, 55))],
)
def test_keep_loc_brings_the_shorter_side_to_the_target_and_rounds_both(size, multiple, shape):
    """600 x 800: the longer side becomes 4/3 of the target, 682.7 or 53.3, rounded to the multiple."""
    canvas = place(drawn(800, 600, (200, 150, 600, 450)), PlacementConfig(size=size, keep_loc=True, multiple=multiple))
    assert canvas.shape == (*shape, 4)
    left, top, right, bottom = (edge / side for edge, side in zip(box_of(canvas), (shape[1], shape[0]) * 2, strict=True))
    assert np.allclose([left, top, right, bottom], [0.25, 0.25, 0.75, 0.75], atol=1 / size)


def test_keep_loc_leaves_a_finished_canvas_as_it_is():
    ready = place(drawn(120, 100, (30, 20, 90, 80)), PlacementConfig(size=40))
    np.testing.assert_array_equal(place(ready, PlacementConfig(size=40, keep_loc=True, multiple=10)), ready)


@pytest.mark.parametrize(("foot", "bottom"), [(0.75, 30), (1.0, 40), (0.5, 20), (0.3, 14), (0.01, 14)])
def test_a_product_stands_where_its_foot_is_told_to(foot, bottom):
    """14 rows tall on 40: 0.75 x 40 = 30; below 14 rows there is no room for it, so it ends at the canvas' top."""
    canvas = place(drawn(40, 40, (9, 11, 20, 25)), PlacementConfig(size=40, keep_loc=True))
    moved = stand(canvas, PlacementConfig(foot=(foot, foot)), seed=3)
    assert box_of(moved) == (9, bottom - 14, 20, bottom)
    np.testing.assert_array_equal(moved[bottom - 14 : bottom], canvas[11:25])
    assert moved.sum() == canvas.sum()


def test_without_a_foot_a_product_stays():
    canvas = place(drawn(40, 40, (9, 11, 20, 25)), PlacementConfig(size=40))
    assert stand(canvas, PlacementConfig(size=40), seed=3) is canvas


def test_feet_are_drawn_from_their_whole_range_and_again_for_the_same_seed():
    canvas = place(drawn(100, 100, (40, 20, 60, 40)), PlacementConfig(size=100, keep_loc=True))
    rules = PlacementConfig(foot=(0.6, 0.8))
    found = [box_of(stand(canvas, rules, seed))[3] for seed in range(400)]
    assert found == [box_of(stand(canvas, rules, seed))[3] for seed in range(400)]
    # 0.6 to 0.8 of 100 rows, rounded: 21 rows, the two at the ends half as likely.
    expected = np.array([10, *[20] * 19, 10])
    assert stats.chisquare(np.bincount(np.array(found) - 60, minlength=21), expected).pvalue > 1e-3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"foot": (0.8, 0.6)}, "the lower first"),
        ({"foot": (0, 0.5)}, "above 0"),
        ({"foot": (0.5, 0.9), "matting": True}, "set one of them"),
    ],
)
def test_feet_that_cannot_be_are_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        PlacementConfig(**fields)


def test_exact_white_is_the_background_of_a_picture_without_alpha():
    pixels = np.full((4, 4, 3), 255, np.uint8)
    pixels[1:3, 1:3] = (255, 255, 254)
    assert with_alpha(pixels)[..., 3].tolist() == [[0] * 4, [0, 255, 255, 0], [0, 255, 255, 0], [0] * 4]


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((8, 8, 3), 254, np.uint8), "no alpha channel and no white background"),
        (np.zeros((8, 8, 4), np.uint8), "the product is empty: alpha is 0 everywhere"),
        (np.full((8, 8, 3), 255, np.uint8), "the product is empty: alpha is 0 everywhere"),
        (np.full((8, 8, 4), 120, np.uint8), "the product is empty: alpha is at most 120 of 255, nowhere above 0.5"),
    ],
)
@pytest.mark.parametrize("keep_loc", [False, True])
def test_a_picture_without_a_product_is_refused_by_name(pixels, reason, keep_loc):
    with pytest.raises(ImageRowError) as refused:
        place(pixels, PlacementConfig(size=40, keep_loc=keep_loc))
    assert str(refused.value) == reason


def test_a_product_that_leaves_nothing_to_paint_is_refused():
    with pytest.raises(ImageRowError, match="nothing is left to paint"):
        place(np.full((8, 8, 4), 255, np.uint8), PlacementConfig(size=40, keep_loc=True))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rules", [{}, {"matting": True}, {"keep_loc": True, "multiple": 8}], ids=["centred", "matting", "keep_loc"])
def test_every_kind_of_cutout_is_laid_whole_on_its_canvas(case, rules):
    picture = with_alpha(decode_image(edge_cutouts()[case]))
    canvas = place(picture, PlacementConfig(size=64, **rules))
    assert canvas.dtype == np.uint8 and min(canvas.shape[:2]) == 64
    left, top, right, bottom = box_of(canvas)
    width, height = box_of(picture)[2] - box_of(picture)[0], box_of(picture)[3] - box_of(picture)[1]
    scale = max((right - left) / width, (bottom - top) / height)
    # `keep_loc` rounds the sides of the whole canvas, the others those of the product.
    assert abs((right - left) - scale * width) <= (1.5 if not rules.get("keep_loc") else 8)
    assert abs((bottom - top) - scale * height) <= (1.5 if not rules.get("keep_loc") else 8)
    assert not canvas[canvas[..., 3] == 0].any()


@given(
    width=st.integers(1, 60), height=st.integers(1, 60), left=st.integers(0, 20), top=st.integers(0, 20),
    size=st.integers(16, 96), image_scale=st.floats(0.3, 1.0),
)  # fmt: skip
def test_any_product_stays_inside_keeps_its_aspect_and_is_laid_once(width, height, left, top, size, image_scale):
    config = PlacementConfig(size=size, image_scale=image_scale)
    picture = drawn(left + width + 3, top + height + 2, (left, top, left + width, top + height))
    try:
        canvas = place(picture, config)
    except ImageRowError as refused:
        assert "nothing is left to paint" in str(refused) and width == height  # a full square box
        return
    x0, y0, x1, y1 = box_of(canvas)
    side = round(size * image_scale)
    assert max(x1 - x0, y1 - y0) == side
    scale = side / max(width, height)
    assert abs((x1 - x0) - max(1, width * scale)) <= 0.5 and abs((y1 - y0) - max(1, height * scale)) <= 0.5
    assert abs(x0 - (size - x1)) <= 1 and abs(y0 - (size - y1)) <= 1
    np.testing.assert_array_equal(place(canvas, config), canvas)


def test_hidden_colour_does_not_bleed_into_the_product():
    pale, dark = drawn(90, 90, (10, 20, 60, 70), soft=8), drawn(90, 90, (10, 20, 60, 70), soft=8)
    dark[dark[..., 3] == 0] = 0
    assert (pale[0, 0, :3] == CREAM).all()
    np.testing.assert_array_equal(place(pale, PlacementConfig(size=40)), place(dark, PlacementConfig(size=40)))


def test_a_picture_survives_its_file():
    picture = drawn(120, 100, (30, 20, 90, 80))
    files = edge_cutouts()
    for case in ("plain", "interlaced", "16 bits, with alpha", "WebP"):
        np.testing.assert_array_equal(decode_image(files[case]), picture, err_msg=case)
    assert decode_image(files["turned by its camera"]).shape == (120, 100, 4)
    assert decode_image(encoded(picture)).shape == (100, 120, 4)
