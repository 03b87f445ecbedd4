"""Edges, masks and the paste: product pixels survive, hidden colours do not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adray.data.images import decode_image
from adray.generation.conditioning import canny_edges, inpaint_masks, paste, paste_tensor
from adray.generation.placement import PlacementConfig, place
from tests.helpers.edge_cutouts import drawn, edge_cutouts

CASES = sorted(edge_cutouts())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [40, 64, 200])
def test_opaque_pixels_survive_the_paste(case, size):
    cutout = place(decode_image(edge_cutouts()[case]), PlacementConfig(size=size))[None]
    rng = np.random.default_rng(size)
    for pictures in (rng.integers(0, 256, (1, size, size, 3), np.uint8), rng.random((1, size, size, 3), np.float32)):
        pasted = paste(pictures, cutout)
        opaque, clear = cutout[..., 3] == 255, cutout[..., 3] == 0
        np.testing.assert_array_equal(pasted[opaque], cutout[opaque][:, :3])
        levels = pictures if pictures.dtype == np.uint8 else np.rint(pictures * 255)
        np.testing.assert_array_equal(pasted[clear], levels[clear])
        nearly = cutout[..., 3] == 254
        assert np.abs(pasted[nearly].astype(int) - cutout[nearly][:, :3]).max(initial=0) <= 1
    assert opaque.any() or case.startswith("alpha")


def test_the_blend_by_hand():
    """Alpha 51 is one fifth: 0.2 x 200 + 0.8 x 100 = 120."""
    cutout = np.array([200, 0, 255, 51], np.uint8).reshape(1, 1, 1, 4)
    assert paste(np.full((1, 1, 1, 3), 100, np.uint8), cutout).reshape(3).tolist() == [120, 80, 131]


@given(seed=st.integers(0, 2**20), side=st.integers(1, 12))
def test_both_pastes_agree_and_the_gradient_is_the_share_of_the_picture(seed, side):
    rng = np.random.default_rng(seed)
    cutouts = rng.integers(0, 256, (2, side, side, 4), np.uint8)
    cutouts[0, ..., 3] = rng.choice([0, 254, 255], (side, side))
    pictures = torch.from_numpy(rng.random((2, 3, side, side), np.float32)).requires_grad_()
    pasted = paste_tensor(pictures, torch.from_numpy(cutouts).permute(0, 3, 1, 2).float() / 255)
    pasted.sum().backward()
    alpha = cutouts[:, None, :, :, 3].repeat(3, axis=1)
    assert pictures.grad is not None
    assert (pictures.grad.numpy()[alpha == 255] == 0).all() and (pictures.grad.numpy()[alpha == 0] == 1).all()
    expected = paste(pictures.detach().permute(0, 2, 3, 1).numpy(), cutouts)
    found = np.rint(pasted.detach().permute(0, 2, 3, 1).numpy() * 255)
    # A value halfway between two levels may fall on either side.
    assert np.abs(found - expected).max() <= 1
    opaque = cutouts[..., 3] == 255
    np.testing.assert_array_equal(found[opaque], cutouts[opaque][:, :3])


@pytest.mark.parametrize("case", CASES)
def test_edges_do_not_see_the_colour_under_the_background(case):
    cutout = place(decode_image(edge_cutouts()[case]), PlacementConfig(size=64))
    hidden = cutout.copy()
    hidden[hidden[..., 3] == 0, :3] = np.random.default_rng(1).integers(0, 256, 3, np.uint8)
    edges = canny_edges(np.stack([cutout, hidden]))
    assert edges.dtype == np.uint8 and edges.shape == (2, 64, 64, 3)
    assert set(np.unique(edges)) <= {0, 255} and edges.any()
    np.testing.assert_array_equal(edges[0], edges[1])
    assert (edges == edges[..., :1]).all()


def test_edges_of_a_plain_square_lie_on_its_outline():
    cutout = np.zeros((1, 40, 40, 4), np.uint8)
    cutout[0, 10:30, 12:28] = (220, 220, 220, 255)
    rows, columns = np.nonzero(canny_edges(cutout)[0, ..., 0])
    near_side = np.minimum(np.abs(columns - 11.5), np.abs(columns - 27.5)) <= 1
    near_end = np.minimum(np.abs(rows - 9.5), np.abs(rows - 29.5)) <= 1
    assert len(rows) >= 60 and (near_side | near_end).all()


def test_faint_edges_stay_below_the_thresholds():
    cutout = np.zeros((1, 40, 40, 4), np.uint8)
    cutout[0, 10:30, 12:28] = (20, 20, 20, 255)
    assert not canny_edges(cutout).any()


def test_the_mask_reaches_half_a_kernel_into_the_product():
    """At 512 px the kernel has 20: ten pixels on one side and nine on the other; at 256 px it has 10."""
    for size, kernel in ((512, 20), (256, 10)):
        cutout = np.zeros((1, size, size, 4), np.uint8)
        cutout[0, size // 4 : size * 3 // 4, size // 4 : size * 3 // 4, 3] = 255
        kept = ~inpaint_masks(cutout)[0]
        assert kept.any(axis=0).sum() == kept.any(axis=1).sum() == size // 2 - kernel + 1
        assert kept.sum() == (size // 2 - kernel + 1) ** 2


@given(seed=st.integers(0, 2**20), side=st.integers(8, 60), dilation=st.integers(0, 80))
def test_the_dilated_mask_contains_the_undilated_one_and_grows(seed, side, dilation):
    rng = np.random.default_rng(seed)
    cutouts = np.zeros((2, side, side, 4), np.uint8)
    cutouts[..., 3] = rng.integers(0, 256, (2, side, side), np.uint8)
    plain = cutouts[..., 3] <= 127
    np.testing.assert_array_equal(inpaint_masks(cutouts, 0), plain)
    assert (inpaint_masks(cutouts, dilation) >= plain).all()
    assert (inpaint_masks(cutouts, dilation + 30) >= inpaint_masks(cutouts, dilation)).all()


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_cutout_leaves_something_to_paint(case):
    cutouts = place(decode_image(edge_cutouts()[case]), PlacementConfig(size=40))[None]
    masks = inpaint_masks(cutouts)
    assert masks.shape == (1, 40, 40) and masks.dtype == bool
    assert masks[cutouts[..., 3] == 0].all()


def test_nothing_is_made_of_nothing():
    none = drawn(8, 8, (2, 2, 6, 6))[None][:0]
    assert canny_edges(none).shape == (0, 8, 8, 3) and inpaint_masks(none).shape == (0, 8, 8)
