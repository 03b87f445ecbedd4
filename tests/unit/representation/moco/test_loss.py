"""The objective: values at chance and at the floor, symmetry, the positive's column, masks."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.representation.moco.loss import chance_loss, contrast, floor_loss

# Computed apart from the code: 4 tau ln N, and 4 tau ln(1 + (N - 1) exp(-1 / tau)).
TABLE = [
    (0.2, 256, 4.436, 0.800),
    (0.2, 1024, 5.545, 1.653),
    (0.2, 4096, 6.654, 2.682),
    (1.0, 256, 22.181, 18.207),
    (1.0, 4096, 33.271, 29.273),
]


@pytest.mark.parametrize(("temperature", "batch", "chance", "floor"), TABLE)
def test_chance_and_floor_of_published_settings(temperature, batch, chance, floor):
    assert chance_loss(temperature, batch) == pytest.approx(chance, abs=1e-3)
    assert floor_loss(temperature, batch) == pytest.approx(floor, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_equal_vectors_are_at_chance(temperature):
    same = F.normalize(torch.ones(256, 8), dim=1)
    total = contrast(same, same, temperature).mean() + contrast(same, same, temperature).mean()
    assert float(total) == pytest.approx(4 * temperature * math.log(256), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_aligned_orthonormal_vectors_are_at_the_floor(temperature):
    basis = torch.eye(64)
    total = 2 * contrast(basis, basis, temperature).mean()
    assert float(total) == pytest.approx(floor_loss(temperature, 64), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.integers(2, 9), st.floats(0.05, 2.0), st.integers(0, 10**6))
def test_it_is_the_formula(n, d, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k = (F.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    found = contrast(q, k, temperature)
    for i in range(n):
        terms = [math.exp(float(q[i] @ k[j]) / temperature) for j in range(n)]
        assert float(found[i]) == pytest.approx(-2 * temperature * math.log(terms[i] / sum(terms)), rel=1e-3, abs=1e-4)


def test_a_smaller_temperature_sharpens():
    generator = torch.Generator().manual_seed(0)
    q, k = (F.normalize(torch.randn(16, 8, generator=generator), dim=1) for _ in range(2))
    shares = []
    for temperature in (1.0, 0.1):
        logits = -contrast(q, k, temperature) / (2 * temperature)
        shares.append(float(logits.std()))
    assert shares[1] > 3 * shares[0]


def test_blocked_negatives_are_left_out_and_positives_stay():
    basis = torch.eye(3)
    every = torch.ones(3, 3, dtype=torch.bool)
    assert contrast(basis, basis, 0.5, every).tolist() == pytest.approx([0, 0, 0], abs=1e-7)
    pair = torch.zeros(3, 3, dtype=torch.bool)
    pair[0, 1] = pair[1, 0] = True
    one_left = 2 * 0.5 * math.log(1 + math.exp(-2))
    two_left = 2 * 0.5 * math.log(1 + 2 * math.exp(-2))
    assert contrast(basis, basis, 0.5, pair).tolist() == pytest.approx([one_left, one_left, two_left], abs=1e-6)
