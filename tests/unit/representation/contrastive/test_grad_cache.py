"""GradCache: the gradients of the plain computation, dropout included, with one chunk's activations at a time."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from adray.representation.contrastive.grad_cache import encode_chunks
from adray.representation.contrastive.info_nce import Pairs, Settings, info_nce
from adray.representation.encoders.base import Encoder, EncoderInputs

ROWS = 6


class Toy(Encoder):
    """A perceptron with dropout that counts how many of its activations are alive."""

    dim = 4

    def __init__(self, dropout):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
        self.alive, self.most = 0, 0

    def prepare(self, creatives):
        raise NotImplementedError

    def transform(self):
        return {}

    def pooled(self, inputs):
        hidden = self.layers[:2](inputs.tensors["x"])
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(hidden.untyped_storage(), self._died)
        return self.layers[2:](hidden)

    def _died(self):
        self.alive -= 1


def chunks(values, rows):
    return [EncoderInputs({"x": part}, len(part)) for part in values.split(rows)]


def gradients(rows, *, cached, dropout=0.0, seed=3):
    torch.manual_seed(0)
    encoder = Toy(dropout).double().train()
    values = torch.randn(2 * ROWS, 5, dtype=torch.float64)
    torch.manual_seed(seed)
    queries, documents = (encode_chunks(encoder, chunks(part, rows), cached=cached) for part in values.split(ROWS))
    info_nce(Pairs(queries, documents), 0.1, Settings()).loss.backward()
    return torch.cat([p.grad.flatten() for p in encoder.parameters()]), encoder


@pytest.mark.parametrize("rows", [1, 3, ROWS])
def test_equals_the_whole_batch(rows):
    whole, _ = gradients(ROWS, cached=False)
    found, _ = gradients(rows, cached=True)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, ROWS])
def test_dropout_is_replayed(rows):
    plain, _ = gradients(rows, cached=False, dropout=0.5)
    found, _ = gradients(rows, cached=True, dropout=0.5)
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=1e-5)
    other, _ = gradients(rows, cached=True, dropout=0.5, seed=4)
    assert not torch.allclose(other, plain, atol=1e-3)


def test_holds_one_chunk_at_a_time():
    _, plain = gradients(1, cached=False)
    _, cached = gradients(1, cached=True)
    assert plain.most == 2 * ROWS
    assert cached.most <= 2


def test_without_gradient_nothing_is_recomputed():
    encoder = Toy(0.0).double()
    with torch.no_grad():
        vectors = encode_chunks(encoder, chunks(torch.randn(ROWS, 5, dtype=torch.float64), 2), cached=True)
    assert vectors.shape == (ROWS, 4) and not vectors.requires_grad
