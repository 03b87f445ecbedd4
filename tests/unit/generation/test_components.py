from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from adray.artifact import load_artifact
from adray.errors import AdrayError, ArtifactError, ConfigError
from adray.generation.artifact import export_generator
from adray.generation.components import KIND, load_components
from adray.generation.sampler import PictureMaker, SamplingConfig
from adray.generation.tokenizer import word_tokenizer
from tests.helpers.tiny_generator import box_cutouts, tiny_components


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator") / "g"
    export_generator(folder, tiny_components(inpaints=True), {"loss": 0.5}, {"seed": 0})
    return folder


def test_a_loaded_generator_makes_the_same_pictures(folder):
    given = (box_cutouts(2), ["red room", "blue wall"], ["", ""], [1, 2])
    sampling = SamplingConfig(steps=2, guidance=2.0)
    before, after = (PictureMaker(parts, sampling)(*given) for parts in (tiny_components(inpaints=True), load_components(folder)))
    assert np.array_equal(before, after)


def test_the_artifact_has_diffusers_own_layout(folder):
    assert load_artifact(folder, KIND).metrics == {"loss": 0.5}
    assert load_components(folder).inpaints
    assert UNet2DConditionModel.from_pretrained(folder / "unet").config.in_channels == 9
    assert ControlNetModel.from_pretrained(folder / "controlnet").config.in_channels == 4


def test_another_controlnet_takes_the_place_of_the_first(folder, tmp_path):
    other = tiny_components(seed=5).controlnet
    other.save_pretrained(tmp_path / "c")
    found = load_components(folder, tmp_path / "c").controlnet.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in other.state_dict().items())


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(ArtifactError, match="no generator at"):
        load_components(tmp_path / "nothing")
    (tmp_path / "partial" / "unet").mkdir(parents=True)
    with pytest.raises(ConfigError, match="has no controlnet"):
        load_components(tmp_path / "partial")


def test_a_damaged_artifact_is_refused(tmp_path):
    export_generator(tmp_path / "g", tiny_components())
    weights = tmp_path / "g" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(AdrayError, match="missing or damaged"):
        load_components(tmp_path / "g")


def test_words_get_ids_by_frequency_then_alphabet():
    texts = ["Red room, plain wall", "red wall", "Zed red"]
    tokenizer = word_tokenizer(texts, vocabulary=7, max_tokens=6)
    # [PAD] [UNK] [END], then red (3), wall (2), and of the words that occur once "," and "plain".
    assert tokenizer("RED wall , plain").input_ids == [3, 4, 5, 6]
    assert tokenizer("room").input_ids == [1]
    assert len(tokenizer) == 7
    assert tokenizer(["red"], padding="max_length", max_length=3).input_ids == [[3, 0, 0]]
    assert word_tokenizer(reversed(texts), 7, 6).get_vocab() == tokenizer.get_vocab()
