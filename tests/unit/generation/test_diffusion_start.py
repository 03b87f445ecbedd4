"""What training a generator starts from, and what its config and checks refuse."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import StableDiffusionControlNetInpaintPipeline
from PIL import Image
from pydantic import ValidationError

from adray.generation.artifact import export_generator
from adray.generation.autoencoder import fit_autoencoder
from adray.generation.components import copied_controlnet, load_components, meta_components
from adray.generation.condition import make_condition
from adray.generation.conditioning import canny_edges, inpaint_masks
from adray.generation.diffusion.building import build_components
from adray.generation.diffusion.checks import all_checks
from adray.generation.diffusion.config import DiffusionRunConfig
from adray.generation.diffusion.sizes import NoiseConfig, SizesConfig
from adray.generation.diffusion.start import prepare_start
from adray.generation.sampler import SamplingConfig, denoise, draw_noise
from adray.generation.schedule import make_scheduler
from tests.helpers.rfft_run import png, products
from tests.helpers.tiny_generator import SIDE, box_cutouts, tiny_components

PROMPTS = ["Mini kettle, red room, plain wall", "blue room"]


def small(latent_channels, inpainting):
    """A generator as the kind builds it, whose new ControlNet has something to say."""
    torch.manual_seed(0)
    sizes = SizesConfig.model_validate(
        {
            "autoencoder": {"patch": 4, "latent_channels": latent_channels},
            "text": {"vocabulary": 32, "max_tokens": 8, "width": 16, "heads": 2},
            "unet": {"channels": [16, 32], "groups": 8, "heads": 2, "edges": [4, 8, 8], "inpainting": inpainting},
        }
    )
    made = build_components(sizes, fit_autoencoder([torch.rand(32, 3, SIDE, SIDE) * 2 - 1], 4, latent_channels), PROMPTS)
    for part in (*made.controlnet.controlnet_down_blocks, made.controlnet.controlnet_mid_block):
        torch.nn.init.normal_(part.weight, std=0.3)
    if inpainting:
        torch.nn.init.normal_(made.unet.conv_in.weight, std=0.1)
    for part in made.networks():
        part.eval()
    return made


@pytest.mark.parametrize("inpainting", [False, True])
def test_a_small_generator_with_the_usual_channels_runs_in_diffusers_own_pipeline(inpainting, tmp_path):
    export_generator(tmp_path / "g", small(4, inpainting))
    parts = load_components(tmp_path / "g")
    cutouts, sampling = box_cutouts(2), SamplingConfig(steps=4, guidance=2.0)
    noise = draw_noise((4, SIDE // 4, SIDE // 4), [3, 4])
    condition = make_condition(parts, cutouts, PROMPTS, ["", ""])
    ours = denoise(parts.unet, parts.controlnet, make_scheduler(parts.scheduler, "ddim", 4), condition, noise, sampling)
    pipeline = StableDiffusionControlNetInpaintPipeline(
        vae=parts.vae, text_encoder=parts.text_encoder, tokenizer=parts.tokenizer, unet=parts.unet, controlnet=parts.controlnet,
        scheduler=make_scheduler(parts.scheduler, "ddim", 4), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    assert pipeline.vae_scale_factor == parts.latent_scale == 4
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=PROMPTS, negative_prompt=["", ""], image=[Image.fromarray(p) for p in cutouts[..., :3] * (cutouts[..., 3:] // 255)],
        mask_image=[Image.fromarray((255 * m).astype(np.uint8)) for m in inpaint_masks(cutouts)],
        control_image=[Image.fromarray(e) for e in canny_edges(cutouts)], height=SIDE, width=SIDE, num_inference_steps=4,
        guidance_scale=2.0, controlnet_conditioning_scale=1.0, latents=noise.clone(), strength=1.0, output_type="latent",
    ).images  # fmt: skip
    assert torch.allclose(ours, theirs, atol=2e-4), float((ours - theirs).abs().max())


def test_words_are_the_same_after_loading(tmp_path):
    made = small(4, False)
    export_generator(tmp_path / "g", made)
    found = load_components(tmp_path / "g").tokenizer
    texts = [*PROMPTS, "PLAIN, Ｋettle unheard", ""]
    assert found(texts).input_ids == made.tokenizer(texts).input_ids
    assert found.model_max_length == 8 and found("unheard").input_ids == [found.unk_token_id]


@pytest.mark.parametrize("inpaints", [False, True])
def test_a_copied_controlnet_is_the_encoder_of_its_unet_and_says_nothing_yet(inpaints):
    parts = tiny_components(inpaints=inpaints)
    made = copied_controlnet(parts.unet, parts.vae)
    # Four channels of x_t, whatever else an inpainting UNet reads.
    assert made.config.in_channels == 4 and torch.equal(made.conv_in.weight, parts.unet.conv_in.weight[:, :4])
    own = parts.unet.down_blocks.state_dict()
    assert all(torch.equal(own[name], value) for name, value in made.down_blocks.state_dict().items())
    with torch.no_grad():
        down, middle = made(torch.randn(1, 4, 8, 8), 5, torch.randn(1, 12, 16), torch.rand(1, 3, SIDE, SIDE), return_dict=False)
    assert all(float(residual.abs().max()) == 0 for residual in (*down, middle))


@pytest.fixture
def values(tmp_path):
    for name, n, seed in (("train", 32, 0), ("holdout", 8, 1)):
        pictures = [{"bytes": png(np.full((SIDE, SIDE, 3), 40 * i % 256, np.uint8)), "path": None} for i in range(n)]
        table = products(n, seed).append_column("image", [pictures]).append_column("prompt", [["red room"] * n])
        pq.write_table(table, tmp_path / f"{name}.parquet")
    return {
        "kind": "diffusion",
        "name": "r",
        "runs_dir": str(tmp_path / "runs"),
        "data": {"train": str(tmp_path / "train.parquet"), "holdout": str(tmp_path / "holdout.parquet"), "size": SIDE},
        "training": {"max_steps": 2, "batch_size": 8},
        "evaluation": {"prompts": {"entries": [{"prompt": "{title}"}]}},
    }


def without_controlnet(folder):
    parts = tiny_components(inpaints=True)
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        getattr(parts, name).save_pretrained(folder / name)
    return folder


def failed(config):
    return {check.name: str(check.error) for check in all_checks(DiffusionRunConfig.model_validate(config), "train") if check.error}


def test_a_generator_without_a_controlnet_gets_a_copy_once(values, tmp_path):
    config = DiffusionRunConfig.model_validate({**values, "generator": str(without_controlnet(tmp_path / "base"))})
    start = prepare_start(config, tmp_path / "run", config.data.train)
    assert start.path == config.generator and start.controlnet == str(tmp_path / "run" / "start" / "controlnet")
    found = load_components(start.path, start.controlnet)
    assert found.inpaints and torch.equal(found.controlnet.conv_in.weight, found.unet.conv_in.weight[:, :4])
    shapes = [p.shape for p in meta_components(start.path, copied=True).controlnet.parameters()]
    assert shapes == [p.shape for p in found.controlnet.parameters()]
    before = (tmp_path / "run" / "start" / "controlnet" / "config.json").stat().st_mtime_ns
    assert prepare_start(config, tmp_path / "run", config.data.train) == start
    assert (tmp_path / "run" / "start" / "controlnet" / "config.json").stat().st_mtime_ns == before


def test_what_is_built_is_built_once_and_anew_for_other_sizes(values, tmp_path):
    config = DiffusionRunConfig.model_validate(values)
    start = prepare_start(config, tmp_path / "run", config.data.train)
    first = load_components(start.path).unet.state_dict()
    stamp = (tmp_path / "run" / "start" / "artifact.json").stat().st_mtime_ns
    assert prepare_start(config, tmp_path / "run", config.data.train) == start
    assert (tmp_path / "run" / "start" / "artifact.json").stat().st_mtime_ns == stamp
    again = load_components(prepare_start(config, tmp_path / "other", config.data.train).path).unet.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    other = DiffusionRunConfig.model_validate({**values, "seed": 1})
    prepare_start(other, tmp_path / "run", other.data.train)
    assert not torch.equal(load_components(start.path).unet.state_dict()["conv_in.weight"], first["conv_in.weight"])


def test_checks_pass_and_name_what_is_wrong(values, tmp_path):
    assert failed(values) == {}
    assert failed({**values, "generator": str(without_controlnet(tmp_path / "base")), "trained": ["controlnet"]}) == {}
    data = values["data"]
    assert "multiples of 8" in failed({**values, "generator": str(tmp_path / "base"), "data": {**data, "size": 36}})["picture size"]
    assert "no generator at" in failed({**values, "generator": str(tmp_path / "nothing")})["generator"]
    assert "'mood'" in failed({**values, "caption": {"template": "{copy} {mood}"}})["data.train"]
    pq.write_table(pa.table({"sku_id": ["a"], "copy": ["b"], "prompt": ["c"]}), tmp_path / "bare.parquet")
    assert "no column 'image'" in failed({**values, "data": {**data, "train": str(tmp_path / "bare.parquet")}})["data.train"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trained": ["unet", "unet"]}, "names a part twice"),
        ({"controlnet": "somewhere"}, "without a generator"),
        ({"data": {"train": "a", "holdout": "b", "size": 36}}, "multiple of 8"),
        ({"caption": {"template": "a product"}}, "no slot"),
        ({"sizes": {"autoencoder": {"patch": 5}}}, "power of two"),
        ({"sizes": {"autoencoder": {"patch": 2, "latent_channels": 13}}}, "patches of 2 px have 12"),
        ({"sizes": {"unet": {"edges": [8, 16]}}}, "it needs 3"),
        ({"sizes": {"unet": {"channels": [64, 128], "attention": [True]}}}, "1 entries for 2"),
        ({"sizes": {"unet": {"channels": [60, 128]}}}, "no multiple of"),
        ({"sizes": {"text": {"width": 30}}}, "no multiple of text.heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values, fields, message):
    with pytest.raises(ValidationError, match=message):
        DiffusionRunConfig.model_validate({**values, **fields})


def test_noise_cannot_be_predicted_where_nothing_but_noise_is_left():
    with pytest.raises(ValidationError, match="zero_terminal_snr"):
        NoiseConfig(prediction_type="epsilon")
    assert NoiseConfig(prediction_type="epsilon", zero_terminal_snr=False).schedule == "linear"
