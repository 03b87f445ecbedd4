"""The key network: its schedule, its update bit for bit, what it copies and what it shares."""

import math

import pytest
import torch
from torch import nn

from adray.representation.moco.momentum import MomentumCopy, momentum_at


def test_the_schedule_rises_from_the_base_over_its_middle_to_one():
    assert momentum_at(0.0, 0.99, cosine=True) == 0.99
    assert momentum_at(0.5, 0.99, cosine=True) == pytest.approx(0.995, abs=1e-12)
    assert momentum_at(1.0, 0.99, cosine=True) == 1.0
    assert momentum_at(0.25, 0.99, cosine=True) == pytest.approx(1 - 0.5 * (1 + math.cos(math.pi / 4)) * 0.01, abs=1e-12)
    assert momentum_at(0.7, 0.99, cosine=False) == 0.99


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    net[0].requires_grad_(False)
    return net


def test_it_starts_as_an_exact_copy_of_what_is_trained():
    net = network()
    key = MomentumCopy(net)
    assert {name for name, _ in key.named_parameters()} == {"1/weight", "1/bias", "3/weight", "3/bias"}
    assert not any(p.requires_grad for p in key.parameters())
    x = torch.randn(5, 6)
    net.eval()
    assert torch.equal(key.keys(net, x), net(x))


def test_the_update_is_bit_for_bit():
    net = network()
    key = MomentumCopy(net)
    before = {name: p.clone() for name, p in key.named_parameters()}
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p))
    for momentum in (0.99, 0.9973):
        key.update(net, momentum)
        weights = {name.replace(".", "/"): p for name, p in net.named_parameters()}
        expected = {name: momentum * old + (1 - momentum) * weights[name].detach() for name, old in before.items()}
        for name, p in key.named_parameters():
            assert torch.equal(p, expected[name])
        before = expected


def test_buffers_are_its_own_and_not_averaged():
    net = network().train()
    key = MomentumCopy(net)
    x = torch.randn(64, 6) * 3 + 1
    net(x)
    key.update(net, 0.5)
    assert not torch.equal(key.get_buffer("1/running_mean"), net[1].running_mean)
    assert (key.get_buffer("1/running_mean") == 0).all()
    mean = net[1].running_mean.clone()
    key.keys(net, x)
    assert (key.get_buffer("1/running_mean") != 0).any()
    assert torch.equal(net[1].running_mean, mean)
    assert int(key.get_buffer("1/num_batches_tracked")) == 1


def test_keys_carry_no_gradient_and_see_the_copys_weights():
    net = network().eval()
    key = MomentumCopy(net)
    with torch.no_grad():
        net[3].weight.zero_()
    x = torch.randn(4, 6)
    keys = key.keys(net, x)
    assert not keys.requires_grad
    assert not torch.allclose(keys, net(x))
    with torch.no_grad():
        net[0].weight.zero_()
    assert not torch.allclose(key.keys(net, x), keys), "frozen weights are shared"
