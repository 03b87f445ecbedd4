"""LARS against its formulas, worked out by hand."""

import math

import torch

from adray.training.config import TrainingConfig
from adray.training.lars import Lars
from adray.training.optimizers import build_optimizer


def test_two_steps_of_a_matrix_by_hand():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = Lars([weight], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    weight.grad = torch.tensor([[0.7, 0.1]])
    optimizer.step()
    # d = g + wd w = (1.0, 0.5), |w| = 5; v = 0.01 * 5 / |d| * d
    scale = 0.01 * 5 / math.hypot(1.0, 0.5)
    first = (3 - 0.5 * scale * 1.0, 4 - 0.5 * scale * 0.5)
    torch.testing.assert_close(weight.detach(), torch.tensor([first]))
    weight.grad = torch.tensor([[0.0, -0.4]])
    optimizer.step()
    d = (0.1 * first[0], -0.4 + 0.1 * first[1])
    again = 0.01 * math.hypot(*first) / math.hypot(*d)
    velocity = [0.9 * scale * a + again * b for a, b in zip((1.0, 0.5), d, strict=True)]
    torch.testing.assert_close(weight.detach(), torch.tensor([[first[0] - 0.5 * velocity[0], first[1] - 0.5 * velocity[1]]]))


def test_the_length_of_the_step_does_not_depend_on_that_of_the_gradient():
    moved = []
    for factor in (1.0, 1000.0):
        weight = torch.nn.Parameter(torch.ones(4, 5))
        weight.grad = factor * torch.arange(20.0).reshape(4, 5)
        Lars([weight], lr=1.0, weight_decay=0.0).step()
        moved.append((1 - weight.detach()).norm())
    torch.testing.assert_close(moved[0], moved[1])
    torch.testing.assert_close(moved[0], torch.tensor(0.001 * math.sqrt(20)))


def test_vectors_take_plain_momentum_steps_without_decay():
    bias = torch.nn.Parameter(torch.tensor([2.0, -1.0]))
    optimizer = Lars([bias], lr=0.1, momentum=0.5, weight_decay=10.0)
    for _ in range(2):
        bias.grad = torch.tensor([1.0, 3.0])
        optimizer.step()
    torch.testing.assert_close(bias.detach(), torch.tensor([2 - 0.1 * 1 - 0.1 * 1.5, -1 - 0.1 * 3 - 0.1 * 4.5]))


def test_zero_weights_and_zero_gradients_stay_finite():
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = Lars([weight], lr=0.1)
    weight.grad = torch.zeros(2, 2)
    optimizer.step()
    assert weight.isfinite().all() and (weight == 0).all()
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), -0.1))


def test_config_reaches_it():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    config = TrainingConfig(optimizer="lars", lr=0.6, weight_decay=1e-6, betas=(0.8, 0.999))
    optimizer = build_optimizer([{"params": [weight]}], config, torch.device("cpu"))
    assert isinstance(optimizer, Lars)
    assert optimizer.defaults == {"lr": 0.6, "momentum": 0.8, "weight_decay": 1e-6, "trust": 0.001}
