"""The module: published shapes, where gradients go, order of the momentum step, collapse figures, export and resume."""

import math

import pytest
import torch
from torch import nn

from adray.representation.encoders.resnet import Resnet, ResnetConfig
from adray.representation.encoders.vit import Vit, VitConfig
from adray.representation.moco.batches import PictureBatch, ViewBatch
from adray.representation.moco.config import KnnConfig, MocoConfig
from adray.representation.moco.module import MocoModule, _watched
from adray.representation.views.config import AugmentationConfig

RESNET = ResnetConfig(image_size=16, depths=[1, 1], widths=[8, 16])
VIT = VitConfig(image_size=16, patch=4, width=24, depth=2, heads=3)


def module(encoder=RESNET, **config):
    torch.manual_seed(0)
    net = Resnet(encoder) if isinstance(encoder, ResnetConfig) else Vit(encoder)
    config = {"hidden": 32, "out": 16, **config}
    views = AugmentationConfig(preset="imagenet", crop_scale=(0.3, 1.0))
    return MocoModule(
        net.train(),
        MocoConfig(**config),
        views,
        seed=0,
        export=lambda e, f: None,
        knn=KnnConfig(),
        size=16,
        convolutional=encoder is RESNET,
    ).train()


def pictures(n=12, epoch=0):
    generator = torch.Generator().manual_seed(1)
    data = torch.randint(0, 256, (n, 3, 18, 18), generator=generator, dtype=torch.uint8)
    return PictureBatch(data, torch.tensor([[40, 30]]).repeat(n, 1), torch.arange(n), torch.arange(n) // 2, epoch)


def shapes(head):
    return [tuple(layer.weight.shape) for layer in head if isinstance(layer, nn.Linear)]


def test_heads_of_a_resnet_are_the_published_ones():
    net = module(RESNET, hidden=4096, out=256)
    assert shapes(net.query.projector) == [(4096, 16), (256, 4096)]
    assert shapes(net.predictor) == [(4096, 256), (256, 4096)]
    assert net.query.projector[-1].affine is False
    assert isinstance(net.predictor[-1], nn.Linear)


def test_heads_of_a_transformer_are_the_published_ones():
    net = module(VIT, hidden=4096, out=256)
    assert shapes(net.query.projector) == [(4096, 24), (4096, 4096), (256, 4096)]
    assert shapes(net.predictor) == [(4096, 256), (256, 4096)]
    assert net.query.projector[-1].affine is False and net.predictor[-1].affine is False
    assert all(layer.bias is None for head in (net.query.projector, net.predictor) for layer in head if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("encoder", [RESNET, VIT], ids=["resnet", "vit"])
def test_gradients_reach_encoder_and_heads_and_nothing_else(encoder):
    net = module(encoder)
    net(pictures())["loss"].backward()
    for name, p in net.named_parameters():
        frozen = name.startswith("key.") or ".patches." in name
        assert p.requires_grad is not frozen, name
        assert (p.grad is None) is frozen, name
        # Blocks whose last norm starts at zero pass nothing back in the first step.
        if not frozen and ".blocks." not in name:
            assert p.grad.abs().sum() > 0, name


def test_swapping_the_views_changes_nothing():
    net = module().eval()
    batch = pictures()
    with torch.no_grad():
        first, second = net._inputs(batch)
        kinds = torch.zeros(len(batch), dtype=torch.int64)
        one = net(ViewBatch(first, second, batch.ids, batch.skus, kinds))
        two = net(ViewBatch(second, first, batch.ids, batch.skus, kinds))
        alone = net(ViewBatch(first, first, batch.ids, batch.skus, kinds))
    torch.testing.assert_close(one["loss"], two["loss"])
    assert not torch.allclose(one["loss"], alone["loss"])


def test_keys_move_after_the_queries_once_a_step_and_before_the_keys():
    net = module(momentum=0.5, momentum_schedule="constant").eval()
    with torch.no_grad():
        net.query.projector[0].weight.add_(0.3)
    before = net.key.get_parameter("projector/0/weight").clone()
    expected = 0.5 * before + 0.5 * net.query.projector[0].weight.detach()
    seen = []
    keys_of = net.key.keys
    net.key.keys = lambda network, inputs: seen.append(net.key.get_parameter("projector/0/weight").clone()) or keys_of(network, inputs)
    queries = []
    handle = net.predictor.register_forward_hook(lambda *a: queries.append(net.key.get_parameter("projector/0/weight").clone()))
    net.before_step(0.0)
    net(pictures())
    handle.remove()
    assert all(torch.equal(weight, before) for weight in queries) and len(queries) == 2
    assert all(torch.equal(weight, expected) for weight in seen) and len(seen) == 2
    # A second micro-batch of the same step moves nothing more.
    net(pictures())
    assert torch.equal(net.key.get_parameter("projector/0/weight"), expected)


def test_without_a_step_the_key_network_stays():
    """The trial pass before the first step must leave no trace."""
    net = module()
    with torch.no_grad():
        net.query.projector[0].weight.add_(0.3)
    before = net.key.get_parameter("projector/0/weight").clone()
    net(pictures())
    assert torch.equal(net.key.get_parameter("projector/0/weight"), before)


def test_decay_spares_biases_norms_and_frozen_weights():
    net = module(VIT)
    decayed, spared = net.parameter_groups()
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim <= 1 for p in spared["params"])
    assert spared["weight_decay"] == 0 and "weight_decay" not in decayed
    trained = {id(p) for p in net.parameters() if p.requires_grad}
    assert {id(p) for group in (decayed, spared) for p in group["params"]} == trained


def test_collapse_shows():
    outputs = module().eval()(pictures())
    assert outputs["loss_chance"].item() == pytest.approx(4 * 0.2 * math.log(12), abs=1e-5)
    flat = torch.full((8, 4), 0.5)
    collapsed = _watched(flat, flat)
    assert collapsed["feature_std"].item() == pytest.approx(0, abs=1e-6)
    assert collapsed["positive_cosine"].item() == pytest.approx(1) and collapsed["cosine_gap"].item() == pytest.approx(0, abs=1e-6)
    spread = _watched(torch.eye(8), torch.eye(8))
    assert spread["positive_cosine"].item() == 1 and spread["negative_cosine"].item() == pytest.approx(0, abs=1e-7)
    assert _watched(torch.nn.functional.normalize(torch.randn(4000, 64), dim=1), torch.ones(4000, 64))[
        "feature_std"
    ].item() == pytest.approx(1, abs=0.05)


def test_the_same_sku_is_no_negative_when_told():
    batch = pictures()
    free, masked = module(), module(mask_same_sku=True)
    assert int(free._blocked(batch).sum()) == 12
    assert int(masked._blocked(batch).sum()) == 24
    free.eval(), masked.eval()
    assert masked(batch)["loss"].item() < free(batch)["loss"].item()


def test_losses_of_pair_kinds_are_told_apart():
    net, batch = module().eval(), pictures()
    first, second = net._inputs(batch)
    kinds = torch.tensor([0] * 6 + [3] * 6)
    outputs = net(ViewBatch(first, second, batch.ids, batch.skus, kinds))
    both = 0.5 * (outputs["loss_augmented"] + outputs["loss_modality"])
    torch.testing.assert_close(both, outputs["loss"].detach())
    assert outputs["loss_image_copy"].isnan()


def test_a_smaller_loss_after_some_steps():
    net = module()
    optimizer = torch.optim.AdamW(net.parameter_groups(), lr=3e-3)
    losses = []
    for step in range(30):
        net.before_step(step / 30)
        loss = net(pictures(24, epoch=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.93 * sum(losses[:5])
