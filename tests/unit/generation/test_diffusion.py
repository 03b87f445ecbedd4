from __future__ import annotations

import numpy as np
import pytest
import torch

from adray.generation.autoencoder import fit_autoencoder
from adray.generation.components import Components
from adray.generation.conditioning import canny_edges
from adray.generation.diffusion.building import build_components
from adray.generation.diffusion.captions import CaptionConfig, caption
from adray.generation.diffusion.losses import ObjectiveConfig, cell_weights, denoising_loss, loss_weights, target_of
from adray.generation.diffusion.module import DiffusionModule
from adray.generation.diffusion.sizes import SizesConfig
from adray.generation.diffusion.source import Pictures, drawn_batch
from adray.generation.schedule import clean_prediction
from tests.helpers.tiny_generator import SIDE, box_cutouts, tiny_components

SIZES = SizesConfig.model_validate(
    {
        "autoencoder": {"patch": 4, "latent_channels": 8},
        "text": {"vocabulary": 32, "max_tokens": 8, "width": 16, "heads": 2},
        "unet": {"channels": [16, 32], "groups": 8, "heads": 2, "edges": [4, 8, 8]},
    }
)


def rows(n=4):
    cutouts = box_cutouts(n)
    pictures = np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3)).astype(np.uint8)
    names = tuple((f"mini kettle {i}, red room, plain wall, apple", f"mini kettle {i}, red room") for i in range(n))
    return Pictures(tuple(f"s{i}" for i in range(n)), names, pictures, cutouts, canny_edges(cutouts))


def generator(**unet) -> Components:
    torch.manual_seed(0)
    vae = fit_autoencoder([torch.rand(32, 3, SIDE, SIDE) * 2 - 1], 4, 8)
    sizes = SIZES.model_copy(update={"unet": SIZES.unet.model_copy(update=unet)})
    return build_components(sizes, vae, ["mini kettle red room plain wall"])


@pytest.mark.parametrize("inpainting", [False, True])
def test_a_new_generator_reads_what_it_should_and_its_controlnet_says_nothing_yet(inpainting):
    parts = generator(inpainting=inpainting)
    assert parts.inpaints is inpainting
    assert parts.unet.config.in_channels == (17 if inpainting else 8) and parts.controlnet.config.in_channels == 8
    if inpainting:
        # The mask and the masked picture are taken no notice of at first.
        assert parts.unet.conv_in.weight[:, 8:].abs().max() == 0 and parts.unet.conv_in.weight[:, :8].abs().max() > 0
    noise, text = torch.randn(1, 8, 8, 8), torch.zeros(1, 8, 16)
    down, middle = parts.controlnet(noise, 5, text, torch.rand(1, 3, SIDE, SIDE), return_dict=False)
    assert all(float(residual.detach().abs().max()) == 0 for residual in (*down, middle))


@pytest.mark.parametrize("trained", [["controlnet"], ["unet", "controlnet", "text_encoder"]])
def test_only_what_is_to_learn_gets_a_gradient(trained):
    module = DiffusionModule(generator(), trained, ObjectiveConfig()).train()
    for part in (*module.controlnet.controlnet_down_blocks, module.controlnet.controlnet_mid_block):
        torch.nn.init.normal_(part.weight, std=0.1)
    module(drawn_batch(rows(), CaptionConfig(dropout=0.0), 0, 0))["loss"].backward()
    for name in ("unet", "controlnet", "text_encoder", "vae"):
        grads = [p.grad for p in getattr(module, name).parameters()]
        assert all(g is None for g in grads) if name not in trained else any(g is not None and g.abs().sum() > 0 for g in grads), name
    assert module.unet.training is ("unet" in trained)


def test_a_step_lowers_the_loss_on_its_pictures():
    module = DiffusionModule(generator(), ["unet", "controlnet", "text_encoder"], ObjectiveConfig()).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    given = drawn_batch(rows(8), CaptionConfig(), 0, 0)
    losses = []
    for _ in range(12):
        loss = module(given)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_weights_make_the_clean_error_weigh_the_same_whatever_is_predicted(kind):
    scheduler = tiny_components(kind).scheduler
    timesteps = torch.tensor([50, 500, 900])
    generator = torch.Generator().manual_seed(0)
    clean, noise, error = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(3))
    level = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
    output = target_of(scheduler, clean, noise, timesteps) + 0.1 * error
    weights = loss_weights(scheduler, timesteps, ObjectiveConfig(snr_clip=4.0, floor=1.0))
    loss = denoising_loss(output, target_of(scheduler, clean, noise, timesteps), weights, torch.ones(3, 1, 8, 8))
    snr = (level / (1 - level)).flatten()
    clean_error = (clean_prediction(scheduler, output, timesteps, noisy) - clean).square().mean(dim=(1, 2, 3))
    assert torch.allclose(loss, (1 + snr.clamp(max=4)) * clean_error, rtol=1e-3)


def test_cells_weigh_by_how_much_product_they_hold():
    alpha = torch.zeros(1, 8, 8)
    alpha[0, :4, :2] = 1.0  # half of the first cell
    assert cell_weights(alpha, 4, 0.2).flatten().tolist() == pytest.approx([0.6, 1.0, 1.0, 1.0])


def test_captions_by_hand():
    config = CaptionConfig()
    row = {"copy": "Bozo {mini} Kettle", "prompt": "red room, plain wall, apple beside it"}
    assert caption(config, row) == "Bozo {mini} Kettle, red room, plain wall, apple beside it"
    assert caption(config, row, shortened=True) == "Bozo {mini} Kettle, red room, plain wall"
    assert caption(config, {"copy": "Kettle", "prompt": None}) == "Kettle"


def test_captions_are_dropped_and_shortened_as_often_as_said():
    many = Pictures(tuple(f"s{i}" for i in range(4000)), (("long, clause", "short"),) * 4000, *(np.zeros((4000, 1, 1, 1), np.uint8),) * 3)
    prompts = np.array(drawn_batch(many, CaptionConfig(dropout=0.1, shortened=0.5), 3, 1).prompts)
    assert abs(np.mean(prompts == "") - 0.1) < 0.02 and abs(np.mean(prompts == "short") - 0.45) < 0.03
    assert set(drawn_batch(many, CaptionConfig(), 3, None).prompts) == {"long, clause"}


def test_draws_depend_on_picture_and_epoch_and_not_on_the_batch():
    whole, config = rows(4), CaptionConfig()
    part = Pictures(*(value[1:3] for value in (whole.keys, whole.captions, whole.pictures, whole.cutouts, whole.edges)))
    one, two = drawn_batch(whole, config, 0, 2), drawn_batch(part, config, 0, 2)
    assert one.seeds[1:3] == two.seeds and torch.equal(one.shares[1:3], two.shares) and one.prompts[1:3] == two.prompts
    assert drawn_batch(whole, config, 0, 3).seeds != one.seeds
