from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetInpaintPipeline
from PIL import Image

from adray.errors import ConfigError
from adray.generation.condition import cell_mask, encode_prompts, make_condition
from adray.generation.conditioning import canny_edges, inpaint_masks
from adray.generation.sampler import PictureMaker, SamplingConfig, denoise, draw_noise
from adray.generation.schedule import clean_prediction, make_scheduler, noise_gap
from tests.helpers.tiny_generator import SIDE, box_cutouts, tiny_components

PROMPTS = ["red room plain wall", "blue room", "mini kettle"]


@pytest.fixture(scope="module")
def parts():
    return tiny_components()


@pytest.mark.parametrize(("name", "inpaints"), [("ddim", False), ("ddim", True), ("euler_a", False), ("dpmpp_2m_sde", False)])
def test_latents_are_those_of_diffusers_own_inpainting_pipeline(name, inpaints):
    parts = tiny_components(inpaints=inpaints)
    assert parts.inpaints is inpaints
    cutouts = box_cutouts(2)
    sampling = SamplingConfig(scheduler=name, steps=5, guidance=3.0, control_scale=0.8)
    condition = make_condition(parts, cutouts, PROMPTS[:2], ["", "green"])
    noise = draw_noise((4, 8, 8), [3, 4])
    fresh = [torch.Generator().manual_seed(s) for s in (1, 2)]
    for generator in fresh:
        # The pipeline draws the product's latents twice, with and without its mask, before it samples.
        torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 4, 8, 8, generator=generator)
    ours = denoise(parts.unet, parts.controlnet, make_scheduler(parts.scheduler, name, 5), condition, noise, sampling, generators=fresh)

    pipeline = StableDiffusionControlNetInpaintPipeline(
        vae=parts.vae, text_encoder=parts.text_encoder, tokenizer=parts.tokenizer, unet=parts.unet, controlnet=parts.controlnet,
        scheduler=make_scheduler(parts.scheduler, name, 5), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    alpha = cutouts[..., 3:] // 255
    theirs = pipeline(
        prompt_embeds=encode_prompts(parts, PROMPTS[:2]),
        negative_prompt_embeds=encode_prompts(parts, ["", "green"]),
        image=[Image.fromarray(p) for p in cutouts[..., :3] * alpha],
        mask_image=[Image.fromarray((255 * m).astype(np.uint8)) for m in inpaint_masks(cutouts)],
        control_image=[Image.fromarray(e) for e in canny_edges(cutouts)],
        height=SIDE, width=SIDE, num_inference_steps=5, guidance_scale=3.0, controlnet_conditioning_scale=0.8,
        latents=noise.clone(), strength=1.0, output_type="latent", generator=[torch.Generator().manual_seed(s) for s in (1, 2)],
    ).images  # fmt: skip
    assert torch.allclose(ours, theirs, atol=2e-4), float((ours - theirs).abs().max())


def test_a_picture_depends_on_its_own_seed_and_not_on_the_batch(parts):
    maker = PictureMaker(parts, SamplingConfig(steps=3, guidance=2.0))
    cutouts, negatives = box_cutouts(3), [""] * 3
    together = maker(cutouts, PROMPTS, negatives, [1, 2, 3])
    alone = maker(cutouts[1:2], PROMPTS[1:2], [""], [2])
    other = maker(cutouts[1:2], PROMPTS[1:2], [""], [9])
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    assert np.abs(other[0].astype(int) - alone[0]).max() > 8


def test_the_product_is_in_the_picture_bit_for_bit(parts):
    cutouts = box_cutouts(3)
    made = PictureMaker(parts, SamplingConfig(steps=2, guidance=2.0))(cutouts, PROMPTS, [""] * 3, [1, 2, 3])
    opaque = cutouts[..., 3] == 255
    assert opaque.any(axis=(1, 2)).all()
    assert np.array_equal(made[opaque], cutouts[..., :3][opaque])


def test_the_sampler_can_be_stopped_before_any_step(parts):
    condition = make_condition(parts, box_cutouts(1), PROMPTS[:1], [""])
    noise = draw_noise((4, 8, 8), [5])
    sampling = SamplingConfig(steps=4, guidance=2.0)
    scheduler = make_scheduler(parts.scheduler, "ddim", 4)
    assert torch.equal(denoise(parts.unet, parts.controlnet, scheduler, condition, noise, sampling, stop=0), noise)
    before_last = denoise(parts.unet, parts.controlnet, make_scheduler(parts.scheduler, "ddim", 4), condition, noise, sampling, stop=3)
    # Where nothing may be repainted, x_t is the product's latents with the noise of its level.
    kept = (condition.repaint == 0).expand_as(before_last)
    level = scheduler.alphas_cumprod[scheduler.timesteps[3]]
    expected = level.sqrt() * condition.product + (1 - level).sqrt() * noise
    assert kept.any() and torch.allclose(before_last[kept], expected[kept], atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_clean_pictures_and_noise_are_what_diffusers_makes_of_the_output(kind):
    scheduler = make_scheduler(tiny_components(kind).scheduler, "ddim", 10)
    generator = torch.Generator().manual_seed(0)
    output, other, latents = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(3))
    timestep = scheduler.timesteps[6]
    expected = scheduler.step(output, timestep, latents).pred_original_sample
    assert torch.allclose(clean_prediction(scheduler, output, timestep, latents), expected, atol=1e-5)
    # x_t = sqrt(abar) x_0 + sqrt(1 - abar) noise tells the noise of any clean picture.
    level = scheduler.alphas_cumprod[timestep]

    def noise(out):
        return (latents - level.sqrt() * clean_prediction(scheduler, out, timestep, latents)) / (1 - level).sqrt()

    assert torch.allclose(noise_gap(scheduler, output - other, timestep), noise(output) - noise(other), atol=1e-4)


def test_a_sampler_that_cannot_read_the_model_is_refused():
    with pytest.raises(ConfigError, match="euler_a.*clean picture"):
        make_scheduler(tiny_components("sample").scheduler, "euler_a", 5)


def test_cells_of_the_mask_by_hand():
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 3, 3] = True  # the last pixel of the first cell
    assert cell_mask(mask, 4, "nearest").flatten().tolist() == [0, 0, 0, 0]
    assert cell_mask(mask, 4, "any").flatten().tolist() == [1, 0, 0, 0]
    assert cell_mask(~mask, 4, "any").flatten().tolist() == [1, 1, 1, 1]
