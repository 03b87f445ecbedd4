"""The weight average against its closed form."""

import torch
from torch import nn

from adray.training.ema import WeightAverage


def _module(values):
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([values]))
    module.bias.requires_grad_(False)
    return module


def test_average_is_the_weighted_sum_of_all_past_weights():
    module, decay = _module([1.0, -2.0]), 0.75
    average = WeightAverage(module, decay)
    history = [module.weight.detach().clone()]
    for step in range(6):
        with torch.no_grad():
            module.weight.add_(0.5 * (step + 1))
        history.append(module.weight.detach().clone())
        average.update()
    # d^n w_0 + sum_k (1 - d) d^(n-k) w_k
    n = len(history) - 1
    expected = decay**n * history[0] + sum((1 - decay) * decay ** (n - k) * history[k] for k in range(1, n + 1))
    torch.testing.assert_close(average.state()["weight"], expected)
    assert set(average.state()) == {"weight"}, "frozen parameters have no average"


def test_applied_swaps_and_gives_back_bit_by_bit():
    module = _module([1.0, 3.0])
    average = WeightAverage(module, 0.5)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.1, 0.7]]))
    average.update()
    own = module.weight.detach().clone()
    with average.applied(module):
        torch.testing.assert_close(module.weight.detach(), torch.tensor([[0.55, 1.85]]))
    assert torch.equal(module.weight, own)
    other = _module([9.0, 9.0])
    with average.applied(other):
        torch.testing.assert_close(other.weight.detach(), torch.tensor([[0.55, 1.85]]))
    assert torch.equal(other.weight, torch.tensor([[9.0, 9.0]]))


def test_bf16_weights_are_averaged_in_fp32():
    module = _module([1.0, 1.0]).bfloat16()
    average = WeightAverage(module, 0.999)
    with torch.no_grad():
        module.weight.fill_(2.0)
    for _ in range(3):
        average.update()
    torch.testing.assert_close(average.state()["weight"], torch.full((1, 2), 2 - 0.999**3))


def test_loaded_state_goes_on():
    first, second = WeightAverage(_module([1.0, 2.0]), 0.9), WeightAverage(_module([5.0, 5.0]), 0.9)
    second.load(first.state())
    assert torch.equal(first.state()["weight"], second.state()["weight"])
