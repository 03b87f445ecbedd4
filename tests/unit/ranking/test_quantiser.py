from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adray.ranking.config import AdScoreConfig
from adray.ranking.quantiser import AdScoreEmbedding, quantise

K = 8192


# Hand values of the paper's formula: floor(8192 * ln(1 + r p) / ln(1 + r)).
@pytest.mark.parametrize(("r", "codes"), [(100.0, [169, 2172, 4256]), (1000.0, [821, 3816, 5472])])
def test_codes_at_known_probabilities(r, codes):
    assert quantise(torch.tensor([0.001, 0.024, 0.1]), K, r).tolist() == codes


@pytest.mark.parametrize("r", [1.0, 100.0, 1000.0])
def test_the_ends_of_the_scale(r):
    assert quantise(torch.tensor([0.0, 1.0]), K, r).tolist() == [0, K - 1]


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50), st.sampled_from([1.0, 100.0, 1000.0]))
def test_codes_rise_with_the_probability_and_stay_in_range(values, r):
    codes = quantise(torch.tensor(sorted(values)), K, r)
    assert (codes.diff() >= 0).all() and codes.min() >= 0 and codes.max() < K


def embedding(mode: str, codes: int = 64) -> AdScoreEmbedding:
    torch.manual_seed(0)
    module = AdScoreEmbedding(AdScoreConfig(codes=codes, dim=5, r=100.0, mode=mode)).double()
    torch.nn.init.normal_(module.weight)
    return module


def test_sum_copies_the_embeddings_gradient_and_leaves_the_value():
    module, p = embedding("sum"), torch.tensor([0.013, 0.4], dtype=torch.float64, requires_grad=True)
    out = module(p)
    assert torch.equal(out.detach(), module.weight[quantise(p, 64, 100.0)].detach())
    upstream = torch.randn(2, 5, dtype=torch.float64)
    out.backward(upstream)
    assert torch.allclose(p.grad, upstream.sum(1))


def test_sum_still_trains_the_row_that_was_looked_up():
    module, p = embedding("sum"), torch.tensor([0.2], dtype=torch.float64)
    module(p).sum().backward()
    touched = module.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == quantise(p, 64, 100.0).tolist()


def test_interp_gradient_is_the_finite_difference():
    module, p = embedding("interp"), torch.tensor([0.0131, 0.31, 0.77], dtype=torch.float64, requires_grad=True)
    upstream, step = torch.randn(3, 5, dtype=torch.float64), 1e-7
    module(p).backward(upstream)
    with torch.no_grad():
        slope = ((module(p + step) - module(p - step)) * upstream).sum(1) / (2 * step)
    assert torch.allclose(p.grad, slope, rtol=1e-5)


def test_interp_is_continuous_where_the_code_jumps():
    module = embedding("interp", codes=8)
    p = torch.linspace(0, 1, 20001, dtype=torch.float64)
    assert module(p).detach().diff(dim=0).abs().max() < 0.02
    assert torch.allclose(module(torch.ones(1, dtype=torch.float64)), module.weight[-1:])


def test_stop_passes_nothing_back():
    module, p = embedding("stop"), torch.tensor([0.2], dtype=torch.float64, requires_grad=True)
    module(p).sum().backward()
    assert p.grad is None


def test_rows_that_were_never_trained_resemble_their_neighbours():
    torch.manual_seed(0)
    weight = AdScoreEmbedding(AdScoreConfig()).weight.detach()
    near, far = (weight[1:] - weight[:-1]).norm(dim=1).mean(), (weight[4096:] - weight[:-4096]).norm(dim=1).mean()
    assert near < 0.02 * far
