"""Encoders from scratch: published sizes, position embedding, initialisation, and the artifact."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from adray.errors import DataError
from adray.representation.creatives import Creatives
from adray.representation.encoders.factory import build_encoder, load_encoder, save_encoder
from adray.representation.encoders.resnet import Resnet, ResnetConfig
from adray.representation.encoders.vit import Vit, VitConfig, sincos_positions

SMALL_VIT = VitConfig(image_size=16, patch=4, width=24, depth=2, heads=3)
SMALL_RESNET = ResnetConfig(image_size=16, depths=[1, 1], widths=[8, 16])


def creatives(n=3, picture=True):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) if picture else None for i in range(n)]
    return Creatives([str(i) for i in range(n)], ["s"] * n, pictures, [""] * n)


def parameters(config):
    with torch.device("meta"):
        net = Vit(config) if isinstance(config, VitConfig) else Resnet(config)
    return sum(p.numel() for p in net.parameters())


def test_full_sizes_are_the_published_ones():
    """torchvision's and DeiT's counts without their classifiers; positions are fixed, so they are not counted."""
    assert parameters(ResnetConfig(stem="imagenet")) == 11_689_512 - 513_000
    r50 = ResnetConfig(stem="imagenet", block="bottleneck", depths=[3, 4, 6, 3])
    assert parameters(r50) == 25_557_032 - 2_049_000
    assert parameters(VitConfig(width=768)) == 86_567_656 - 769_000 - 197 * 768
    assert parameters(VitConfig()) == 22_050_664 - 385_000 - 197 * 384


def test_positions_are_sines_of_rows_and_columns():
    table = sincos_positions(3, 8)[0]
    assert (table[0] == 0).all()
    y, x = 2, 1
    w = [1.0, 10000**-0.5]
    expected = [*(math.sin(x * k) for k in w), *(math.cos(x * k) for k in w), *(math.sin(y * k) for k in w), *(math.cos(y * k) for k in w)]
    assert table[1 + 3 * y + x].tolist() == pytest.approx(expected, abs=1e-6)


def test_initialisation_of_the_transformer():
    torch.manual_seed(0)
    net = Vit(VitConfig(image_size=32, patch=8, width=96, depth=1, heads=4))
    block = net.blocks[0]
    # Uniform in +-b has a standard deviation of b / sqrt(3).
    for weight, fans in [
        (block.attention.qkv.weight, 192),
        (block.attention.out.weight, 192),
        (block.mlp[0].weight, 480),
        (net.patches.weight, 288),
    ]:
        bound = math.sqrt(6 / fans)
        assert weight.abs().max() <= bound and float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert all((p == 0).all() for name, p in net.named_parameters() if name.endswith("bias"))
    assert float(net.class_token.abs().max()) < 1e-5
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_the_patch_projection_is_frozen_unless_told():
    assert [name for name, p in Vit(SMALL_VIT).named_parameters() if not p.requires_grad] == ["patches.weight", "patches.bias"]
    assert all(p.requires_grad for p in Vit(SMALL_VIT.model_copy(update={"freeze_patches": False})).parameters())


def test_residual_blocks_start_as_the_identity():
    net = Resnet(SMALL_RESNET)
    assert all((block.norms[-1].weight == 0).all() for block in net.blocks)
    x = torch.rand(2, 8, 8, 8)
    net.eval()
    torch.testing.assert_close(net.blocks[0](x), x)


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
def test_artifacts_give_the_same_vectors(config, tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(config)
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    vectors = encoder(encoder.prepare(creatives()))
    assert vectors.shape == (3, encoder.dim) and vectors.norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    save_encoder(encoder, config, tmp_path / "encoder")
    again = load_encoder(tmp_path / "encoder")
    assert torch.equal(again(again.prepare(creatives())), vectors)


def test_bytes_and_floats_are_normalised_alike():
    net = Resnet(SMALL_RESNET).eval()
    inputs = net.prepare(creatives())
    floats = type(inputs)({"pixels": inputs.tensors["pixels"].float() / 255}, inputs.rows)
    torch.testing.assert_close(net.pooled(inputs), net.pooled(floats))


def test_a_creative_without_a_picture_is_refused():
    with pytest.raises(DataError, match="creative '0' has no picture"):
        Resnet(SMALL_RESNET).prepare(creatives(1, picture=False))


@pytest.mark.parametrize("wrong", [{"image_size": 30, "patch": 4}, {"width": 26}, {"width": 24, "heads": 5}])
def test_sizes_that_do_not_divide_are_refused(wrong):
    with pytest.raises(ValidationError):
        VitConfig(**wrong)
