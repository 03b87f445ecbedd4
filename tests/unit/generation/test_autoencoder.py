from __future__ import annotations

import numpy as np
import pytest
import torch

from adray.generation.autoencoder import PatchAutoencoder, fit_autoencoder


def pictures(n=64, side=16, seed=0):
    """Smooth colours with some detail, so that components differ in power."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    fine = 0.1 * torch.rand(n, 3, side, side, generator=generator)
    return 2.0 * (torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") * 0.9 + fine) - 1.0


def patches(x, side=4):
    """float64 `[rows, 3 * side ** 2]`, by NumPy alone."""
    n, _, height, width = x.shape
    cut = x.numpy().astype(np.float64).reshape(n, 3, height // side, side, width // side, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * side * side)


@pytest.mark.parametrize("channels", [3, 12, 48])
def test_the_error_is_that_of_the_best_linear_code(channels):
    x = pictures()
    made = fit_autoencoder(iter([x[:40], x[40:]]), 4, channels)
    decoded = made.decode(made.encode(x).latent_dist.mode()).sample
    error = float((decoded - x).double().square().sum())
    rows = patches(x)
    power = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    assert error == pytest.approx(power[channels:].sum(), rel=1e-3, abs=1e-3)


def test_latents_have_a_mean_square_of_one():
    x = pictures()
    made = fit_autoencoder([x], 4, 8)
    latents = made.encode(x).latent_dist.sample() * made.config.scaling_factor
    assert latents.shape == (64, 8, 4, 4)
    assert float(latents.square().mean()) == pytest.approx(1.0, rel=1e-3)


def test_equal_pictures_give_equal_weights_whatever_the_batches():
    x = pictures()
    one, two = fit_autoencoder([x], 4, 8), fit_autoencoder(x.split(7), 4, 8)
    assert torch.allclose(one.basis, two.basis, atol=1e-5) and torch.allclose(one.mean, two.mean, atol=1e-6)


def test_it_is_saved_and_loaded_as_diffusers_models_are(tmp_path):
    made = fit_autoencoder([pictures()], 4, 8)
    made.save_pretrained(tmp_path)
    found = PatchAutoencoder.from_pretrained(tmp_path)
    assert dict(found.config)["patch"] == 4 and torch.equal(found.basis, made.basis)
    assert found.config.scaling_factor == made.config.scaling_factor


def test_gradients_pass_through_the_decoder_exactly():
    made = fit_autoencoder([pictures()], 4, 8)
    z = torch.randn(1, 8, 4, 4, requires_grad=True)
    made.decode(z).sample.sum().backward()
    # The sum over a patch of each component's pixels, at every cell.
    expected = made.basis.sum(dim=1).view(1, 8, 1, 1).expand_as(z)
    assert torch.allclose(z.grad, expected, atol=1e-5)


def test_more_components_than_a_patch_has_are_refused():
    with pytest.raises(ValueError, match="1 to 48 components"):
        PatchAutoencoder(4, 49)
