"""Keyed random numbers: known values of the hash, good statistics, and no dependence on the batch."""

import numpy as np
import pytest
import torch
from scipy import stats

from adray.representation.views.keyed import Keyed, mix


def test_the_hash_is_splitmix64():
    """The first outputs of SplitMix64 from state 0 and from state 1234567, as published with the generator."""
    golden = 0x9E3779B97F4A7C15
    states = [0, (golden) % 2**64, 2 * golden % 2**64, 1234567]
    given = torch.from_numpy(np.array(states, np.uint64).view(np.int64))
    expected = np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 6457827717110365317], np.uint64)
    assert (mix(given).numpy().view(np.uint64) == expected).all()


def keyed(rows, seed=3, epoch=2, view=0):
    return Keyed.of(seed, epoch, torch.arange(rows) * 7919 - 1000, view)


def test_numbers_are_uniform():
    numbers = keyed(20000).uniform("x", 3).numpy()
    assert numbers.min() >= 0 and numbers.max() < 1
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 0.03


@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 3}, {"view": 1}])
def test_every_coordinate_gives_other_numbers(other):
    a, b = keyed(5000).uniform("x", 1)[:, 0].numpy(), keyed(5000, **other).uniform("x", 1)[:, 0].numpy()
    assert not (a == b).any()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_every_purpose_gives_other_numbers():
    a, b = keyed(5000).uniform("x", 1)[:, 0].numpy(), keyed(5000).uniform("y", 1)[:, 0].numpy()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_a_row_does_not_depend_on_its_batch():
    ids = torch.tensor([5, -3, 2**62, 11])
    whole, part = Keyed.of(1, 0, ids, 1), Keyed.of(1, 0, ids[[2, 1]], 1)
    assert torch.equal(whole.uniform("x", 4)[[2, 1]], part.uniform("x", 4))


def test_orders_are_permutations_each_as_likely():
    orders = keyed(24000).order("o", 4)
    assert (orders.sort(dim=1).values == torch.arange(4)).all()
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


def test_choices_and_chances():
    random = keyed(30000)
    chosen = random.choice("c", torch.full((30000,), 3))
    assert stats.chisquare(torch.bincount(chosen, minlength=3).numpy()).pvalue > 0.001
    assert abs(random.happens("h", 0.2).float().mean() - 0.2) < 0.01
    assert not random.happens("h", 0.0).any() and random.happens("h", 1.0).all()
    between = random.between("b", -2.0, 3.0)
    assert between.min() >= -2 and between.max() < 3 and abs(between.mean() - 0.5) < 0.05
