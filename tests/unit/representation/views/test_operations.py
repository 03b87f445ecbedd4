"""Each operation on a batch against Pillow, torch or SciPy, picture by picture."""

import colorsys
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from adray.representation.views import colour
from adray.representation.views.blur import gaussian_blur, recompress
from adray.representation.views.geometry import crop_boxes, crop_resize, resampling, shifted_boxes
from adray.representation.views.keyed import Keyed


@pytest.fixture
def pictures():
    """Smooth and sharp contents, uint8 `[6, 3, 40, 40]`."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 3, 5, 5)).astype(np.float32)
    smooth = F.interpolate(torch.from_numpy(noise), size=(40, 40), mode="bicubic").clamp(0, 255)
    smooth[3:, :, 10:20, 12:30] = 250
    return smooth.round().to(torch.uint8)


def to_pil(picture):
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def from_pil(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def close(batch, references, within, mean=None):
    """Compare a float batch with uint8-valued references, in units of 1/255."""
    difference = (batch * 255 - torch.stack(references)).abs()
    assert difference.max() <= within, difference.max()
    if mean is not None:
        assert difference.mean() <= mean, difference.mean()


@pytest.mark.parametrize("size", [16, 33, 64])
def test_crop_and_resize_is_pillows(pictures, size):
    boxes = [(0, 0, 40, 40), (3, 7, 20, 31), (10, 0, 30, 9), (39, 39, 1, 1), (5, 5, 16, 16), (0, 20, 40, 20)]
    shares = torch.tensor(boxes, dtype=torch.float32) / 40
    found = crop_resize(pictures.float() / 255, shares, size)
    references = []
    for picture, (top, left, height, width) in zip(pictures, boxes, strict=True):
        cut = to_pil(picture).crop((left, top, left + width, top + height))
        references.append(from_pil(cut.resize((size, size), Image.Resampling.BILINEAR)))
    # Pillow rounds to whole levels after each of its two passes.
    close(found, references, within=1.01)


def test_resizing_is_torchs_antialiased_interpolation(pictures):
    found = crop_resize(pictures.float() / 255, torch.tensor([[0.0, 0, 1, 1]]).expand(6, 4), 13)
    expected = F.interpolate(pictures.float() / 255, size=(13, 13), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_flip_mirrors(pictures):
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.7]]).expand(6, 4)
    flip = torch.tensor([True, False, True, True, False, False])
    plain, mirrored = crop_resize(pictures.float(), boxes, 20), crop_resize(pictures.float(), boxes, 20, flip)
    torch.testing.assert_close(mirrored[flip], plain[flip].flip(3))
    torch.testing.assert_close(mirrored[~flip], plain[~flip])


def test_what_lies_outside_is_white(pictures):
    """A box half a side to the left: its left half is margin, its right half is the picture's left half."""
    found = crop_resize(pictures.float() / 255, torch.tensor([[0.0, -0.5, 1, 1]]).expand(6, 4), 40)
    assert (found[:, :, :, :19] == 1).all()
    torch.testing.assert_close(found[:, :, :, 21:], pictures[:, :, :, 1:20].float() / 255)


def test_weights_sum_to_one_inside():
    weights = resampling(torch.tensor([0.0, 2.5]), torch.tensor([10.0, 3.3]), 10, 7)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 7))


def test_boxes_have_the_published_distribution():
    """Areas uniform in the range, log ratios uniform, boxes inside; sides are rounded to pixels of large pictures."""
    random = Keyed.of(0, 0, torch.arange(20000), 0)
    sizes = torch.tensor([[1000, 1000]]).expand(20000, 2)
    top, left, height, width = crop_boxes(random, sizes, (0.2, 0.5), (3 / 4, 4 / 3)).unbind(1)
    area, ratio = height * width, (width / height).log()
    assert area.min() > 0.199 and area.max() < 0.501
    assert abs(float(area.mean()) - 0.35) < 0.005 and abs(float(area.var()) - 0.3**2 / 12) < 0.0003
    assert abs(float(ratio.mean())) < 0.01 and abs(float(ratio.var()) - (2 * np.log(4 / 3)) ** 2 / 12) < 0.001
    assert top.min() >= 0 and left.min() >= 0 and (top + height).max() <= 1.0001 and (left + width).max() <= 1.0001
    # Where there is room, positions are uniform.
    place = top / (1 - height)
    assert abs(float(place.mean()) - 0.5) < 0.01


def test_a_picture_too_long_for_any_box_gives_its_centre():
    boxes = crop_boxes(Keyed.of(0, 0, torch.arange(4), 0), torch.tensor([[10, 1000]] * 4), (0.9, 1.0), (3 / 4, 4 / 3))
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 493 / 1000, 1.0, 13 / 1000]]).expand(4, 4))


def test_shifted_boxes_keep_the_crop_inside():
    boxes = torch.tensor([[0.2, 0.3, 0.4, 0.5]]).expand(1000, 4)
    moved = shifted_boxes(Keyed.of(0, 0, torch.arange(1000), 0), boxes, 0.1)
    assert (moved[:, 0] <= 0.2).all() and (moved[:, 1] <= 0.3).all()
    assert ((moved[:, 0] + moved[:, 2]) >= 0.6 - 1e-6).all() and ((moved[:, 1] + moved[:, 3]) >= 0.8 - 1e-6).all()
    assert moved[:, 2].max() <= 0.4 * 1.2 + 1e-6 and moved[:, 2].max() > 0.4 * 1.15


FACTORS = torch.tensor([0.2, 0.6, 1.0, 1.3, 1.7, 0.0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(colour.brightness, ImageEnhance.Brightness), (colour.contrast, ImageEnhance.Contrast), (colour.saturation, ImageEnhance.Color)],
)
def test_jitter_operations_are_pillows(pictures, ours, theirs):
    found = ours(pictures.float() / 255, FACTORS)
    references = [from_pil(theirs(to_pil(p)).enhance(float(f))) for p, f in zip(pictures, FACTORS, strict=True)]
    # Pillow's grey is rounded, and truncated after blending.
    close(found, references, within=2.01)


def test_hue_is_colorsys(pictures):
    shifts = torch.tensor([0.0, 0.1, -0.1, 0.5, 0.33, -0.5])
    values = pictures[:, :, ::8, ::8].float() / 255
    found = colour.hue(values, shifts)
    for n in range(6):
        for y in range(values.shape[2]):
            for x in range(values.shape[3]):
                h, s, v = colorsys.rgb_to_hsv(*values[n, :, y, x].tolist())
                expected = colorsys.hsv_to_rgb((h + float(shifts[n])) % 1, s, v)
                assert found[n, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_greyscale_and_solarize_are_pillows(pictures):
    grey = colour.greyscale(pictures.float() / 255).expand(-1, 3, -1, -1)
    close(grey, [from_pil(ImageOps.grayscale(to_pil(p)).convert("RGB")) for p in pictures], within=1.01)
    close(colour.solarize(pictures.float() / 255), [from_pil(ImageOps.solarize(to_pil(p), 128)) for p in pictures], within=0.01)


def test_blur_is_scipys(pictures):
    sigma = torch.tensor([0.1, 0.3, 0.6, 1.0, 1.7, 2.0])
    found = gaussian_blur(pictures.float(), sigma)
    for one, picture, s in zip(found, pictures, sigma, strict=True):
        for channel in range(3):
            expected = ndimage.gaussian_filter(picture[channel].float().numpy(), float(s), mode="nearest", truncate=4.0)
            np.testing.assert_allclose(one[channel].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("quality", [15, 40, 75, 95])
def test_recompression_is_jpegs(pictures, quality):
    """Against a real encoder without chroma subsampling; its integer transforms round differently in places."""
    found = recompress(pictures.float() / 255, torch.full((6,), float(quality)))
    references = []
    for picture in pictures:
        buffer = io.BytesIO()
        to_pil(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
        references.append(from_pil(Image.open(buffer).convert("RGB")))
    difference = (found * 255 - torch.stack(references)).abs()
    lost = (pictures.float() - torch.stack(references)).abs().mean()
    assert difference.mean() < 0.25 * lost + 0.3


def test_recompression_takes_any_size(pictures):
    assert recompress(pictures[:, :, :13, :21].float() / 255, torch.full((6,), 60.0)).shape == (6, 3, 13, 21)
