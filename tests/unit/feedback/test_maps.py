from __future__ import annotations

import numpy as np
import pytest
import torch

from adray.errors import ConfigError
from adray.feedback.config import MapsConfig
from adray.feedback.maps import ContrastSaliency, GroundDepth, Maps, OnnxSaliency, TransformersDepth


def room(product_bottom, side=64):
    """A wall down to row 40, a floor below, and a red product of 16 x 16."""
    picture = torch.full((1, 3, side, side), 0.8)
    picture[:, :, 40:] = 0.4
    picture[:, :, product_bottom - 16 : product_bottom, 24:40] = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1)
    return picture


def test_a_thing_on_the_ground_is_nearer_than_one_that_floats():
    depth = GroundDepth()
    stands, floats = depth(room(48))[0, 0], depth(room(34))[0, 0]
    assert stands.shape == (64, 64)
    # The foot at row 48 has the depth of the ground there, (47.5 - 40) / 25, and all of the product with it.
    assert stands[36:46, 28:36].mean() == pytest.approx(0.3, abs=0.06)
    assert floats[20:32, 28:36].max() < 0.06
    assert stands[5, 5] < 0.02
    assert 0.9 < stands[63, 2] < 1.0


def test_what_stands_out_is_salient():
    saliency = ContrastSaliency()
    clear = saliency(room(48))[0, 0]
    hidden = saliency(0.97 * torch.full((1, 3, 64, 64), 0.5) + 0.03 * room(48))[0, 0]
    assert clear[34:46, 26:38].mean() > clear[2:20, 2:20].mean() + 0.3
    assert hidden.max() < 0.3


@pytest.mark.parametrize("maps", [GroundDepth(), ContrastSaliency()])
def test_embedded_maps_are_in_range_and_pass_gradients(maps):
    pictures = torch.rand(2, 3, 24, 40, requires_grad=True)
    found = maps(pictures)
    assert found.shape == (2, 1, 24, 40)
    assert found.min() >= 0 and found.max() <= 1
    found.mean().backward()
    assert torch.isfinite(pictures.grad).all() and pictures.grad.abs().sum() > 0
    flat = torch.full((1, 3, 24, 24), 0.5, requires_grad=True)
    maps(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_a_picture_does_not_change_its_neighbours_map():
    maps = Maps(MapsConfig())
    pictures = torch.rand(3, 3, 32, 32)
    for alone, together in zip(maps(pictures[1:2]), maps(pictures), strict=True):
        assert torch.allclose(alone[0], together[1], atol=1e-6)


def test_depth_estimators_of_transformers(tmp_path):
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = Dinov2Config(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14, out_features=stages)
    backbone.reshape_hidden_states = False
    sizes = {"reassemble_hidden_size": 16, "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "head_hidden_size": 8, "patch_size": 14}
    config = DepthAnythingConfig(backbone_config=backbone, **sizes)
    DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    DPTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    depth = TransformersDepth(str(tmp_path))
    pictures = torch.rand(2, 3, 40, 40, requires_grad=True)
    found = depth(pictures)
    assert found.shape == (2, 1, 40, 40)
    # The random head's values differ little; stretching them is tested with the ONNX network below.
    assert found.detach().amin(dim=(1, 2, 3)).abs().max() < 1e-5
    assert 0 < found.detach().amax(dim=(1, 2, 3)).min() <= 1
    found.mean().backward()
    assert pictures.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in depth.parameters())
    assert Maps(MapsConfig(depth=str(tmp_path))).identity.startswith("transformers-")


def test_missing_networks_are_named(tmp_path):
    with pytest.raises(ConfigError, match="maps.depth .*nowhere"):
        TransformersDepth(str(tmp_path / "nowhere"))
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ConfigError, match="maps.saliency .*x.onnx"):
        OnnxSaliency(str(tmp_path / "x.onnx"))


def field(number, kind, value):
    """One protobuf field: an integer (kind 0) or bytes (kind 2)."""

    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    return varint(number << 3 | kind) + (varint(value) if kind == 0 else varint(len(value)) + value)


def tensor_info(name, shape):
    dims = b"".join(field(1, 2, field(1, 0, d)) for d in shape)
    return field(1, 2, name) + field(2, 2, field(1, 2, field(1, 0, 1) + field(2, 2, dims)))


def test_a_saliency_network_in_onnx(tmp_path):
    # ReduceMax over channels, written as the ONNX protobuf by hand.
    axes = field(1, 2, b"axes") + field(8, 0, 1) + field(20, 0, 7)
    keep = field(1, 2, b"keepdims") + field(3, 0, 1) + field(20, 0, 2)
    node = field(1, 2, b"x") + field(2, 2, b"y") + field(4, 2, b"ReduceMax") + field(5, 2, axes) + field(5, 2, keep)
    ends = field(11, 2, tensor_info(b"x", (2, 3, 16, 16))) + field(12, 2, tensor_info(b"y", (2, 1, 16, 16)))
    graph = field(1, 2, node) + field(2, 2, b"g") + ends
    (tmp_path / "u2net.onnx").write_bytes(field(1, 0, 7) + field(7, 2, graph) + field(8, 2, field(1, 2, b"") + field(2, 0, 12)))
    pictures = torch.zeros(2, 3, 16, 16)
    pictures[:, :, 4:8, 4:8] = 1.0
    found = OnnxSaliency(str(tmp_path / "u2net.onnx"))(pictures)
    assert np.allclose(found[0, 0].numpy(), pictures[0, 0].numpy(), atol=1e-5)
