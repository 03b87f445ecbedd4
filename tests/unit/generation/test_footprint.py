from __future__ import annotations

import pytest

from adray.generation.architectures import meta_architecture
from adray.generation.artifact import export_generator
from adray.generation.components import load_components, meta_components
from adray.generation.footprint import denoising_footprint, feedback_footprint, parameters
from tests.helpers.tiny_generator import SIDE, tiny_components


@pytest.fixture(scope="module")
def sd15():
    return meta_architecture("sd15")


def test_stable_diffusion_has_its_published_sizes(sd15):
    counts = [parameters([part]) for part in sd15.networks()]
    assert counts == [859_520_964, 361_279_120, 83_653_863, 123_060_480]
    assert sd15.latent_scale == 8 and not sd15.inpaints


def test_a_worker_of_the_full_size_run(sd15):
    def footprint(**fields):
        return feedback_footprint(sd15, 512, **{"rows": 4, "teacher": True, "half": True, "recompute": False, **fields})

    found = footprint()
    # UNet, autoencoder and text encoder once, the ControlNet twice; gradient and two moments of the ControlNet alone.
    assert found.weights == 4 * (859_520_964 + 83_653_863 + 123_060_480 + 2 * 361_279_120)
    assert found.training == 12 * 361_279_120
    assert footprint(teacher=False).weights == found.weights - 4 * 361_279_120
    assert footprint(rows=8).activations == 2 * found.activations
    assert footprint(half=False).activations == 2 * found.activations
    assert footprint(recompute=True).activations < found.activations / 5


def test_a_worker_that_trains_on_pictures_at_full_size(sd15):
    def footprint(trained=("controlnet",), **fields):
        return denoising_footprint(sd15, trained, 512, **{"rows": 2, "half": True, "recompute": False, **fields})

    alone, whole = footprint(), footprint(("unet", "controlnet", "text_encoder"))
    assert alone.weights == whole.weights == 4 * (859_520_964 + 361_279_120 + 83_653_863 + 123_060_480)
    assert alone.training == 12 * 361_279_120
    assert whole.training == 12 * (361_279_120 + 859_520_964 + 123_060_480)
    # A frozen UNet's encoder keeps nothing.
    assert 0.6 < alone.activations / footprint(("unet", "controlnet")).activations < 0.9
    assert footprint(rows=4).activations == 2 * alone.activations
    assert footprint(recompute=True).activations < alone.activations / 5


def test_meta_components_are_those_of_the_folder_without_memory(tmp_path):
    export_generator(tmp_path / "g", tiny_components())
    built, loaded = meta_components(tmp_path / "g"), load_components(tmp_path / "g")
    for one, two in zip(built.networks(), loaded.networks(), strict=True):
        assert all(p.is_meta for p in one.parameters())
        assert [(n, p.shape) for n, p in one.named_parameters()] == [(n, p.shape) for n, p in two.named_parameters()]
    assert feedback_footprint(built, SIDE, 2, teacher=True, half=False, recompute=False).total > 0
