"""Whole views: keyed by the creative, the same in any batch, strong where the preset says so."""

import pytest
import torch
from pydantic import ValidationError

from adray.representation.views.config import AugmentationConfig
from adray.representation.views.pictures import picture_views

IMAGENET = AugmentationConfig(preset="imagenet")
CREATIVE = AugmentationConfig(preset="creative")


def batch(n=24, side=36):
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (n, 3, 6, 6), generator=generator).float()
    pictures = torch.nn.functional.interpolate(pictures, size=(side, side), mode="bilinear").to(torch.uint8)
    return pictures, torch.tensor([[120, 100]]).repeat(n, 1), torch.arange(n) * 31 + 5


def views(rows=slice(None), *, seed=0, epoch=0, config=IMAGENET, size=32):
    return picture_views(*(tensor[rows] for tensor in batch()), seed=seed, epoch=epoch, config=config, size=size)


@pytest.mark.parametrize("config", [IMAGENET, CREATIVE], ids=["imagenet", "creative"])
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_any_number_of_workers_makes_the_same_views_bit_for_bit(config, workers):
    alone = views(config=config)
    shared = [views(slice(r * 24 // workers, (r + 1) * 24 // workers), config=config) for r in range(workers)]
    for v in (0, 1):
        assert torch.equal(alone[v], torch.cat([part[v] for part in shared]))


def test_views_differ_by_view_epoch_and_seed():
    first, second = views()
    for other in (second, views(epoch=1)[0], views(seed=1)[0]):
        assert ((first - other).abs().flatten(1).mean(dim=1) > 0.01).all()
    assert torch.equal(first, views()[0])


def test_values_stay_in_range():
    for config in (IMAGENET, CREATIVE):
        for view in views(config=config):
            assert view.dtype == torch.float32 and view.shape == (24, 3, 32, 32)
            assert view.min() >= 0 and view.max() <= 1


def test_precision_of_training_does_not_reach_the_views():
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views()[0], views()[0].float())
        inside = views()[0]
    assert torch.equal(inside, views()[0])


def test_the_imagenet_preset_is_the_published_recipe():
    assert IMAGENET.crop_scale == (0.08, 1.0) and IMAGENET.crop_ratio == (3 / 4, 4 / 3)
    assert IMAGENET.jitter == (0.4, 0.4, 0.2, 0.1) and IMAGENET.jitter_probability == 0.8
    assert IMAGENET.greyscale == 0.2 and IMAGENET.flip == 0.5
    assert [view.blur for view in IMAGENET.views] == [1.0, 0.1]
    assert [view.solarize for view in IMAGENET.views] == [0.0, 0.2]
    assert IMAGENET.blur_sigma == (0.1, 2.0) and IMAGENET.jpeg == 0 and IMAGENET.shift == 0


def test_the_creative_preset_mirrors_nothing_and_keeps_colours():
    assert CREATIVE.flip == 0 and CREATIVE.greyscale == 0 and CREATIVE.jitter[3] <= 0.02
    assert all(view.solarize == 0 for view in CREATIVE.views) and CREATIVE.crop_scale[0] >= 0.5


def test_a_field_wins_over_the_preset():
    assert AugmentationConfig(preset="imagenet", flip=0.0).flip == 0
    assert AugmentationConfig(preset="imagenet", flip=0.0).greyscale == 0.2


def test_nothing_switched_on_is_plain_resizing():
    still = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "jitter_probability": 0, "greyscale": 0, "flip": 0}
    config = AugmentationConfig(preset="imagenet", views=({"blur": 0}, {"blur": 0}), **still)
    pictures, _, ids = batch()
    square = torch.tensor([[100, 100]]).repeat(24, 1)
    first, _ = picture_views(pictures, square, ids, seed=0, epoch=0, config=config, size=36)
    torch.testing.assert_close(first, pictures.float() / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize("wrong", [{"crop_scale": (0.0, 1.0)}, {"crop_scale": (0.6, 0.5)}, {"jitter": (0.1, 0.1, 0.1, 0.6)}, {"flip": 1.5}])
def test_wrong_strengths_are_refused(wrong):
    with pytest.raises(ValidationError):
        AugmentationConfig(**wrong)
