"""InfoNCE against hand-written formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.representation.contrastive.identity import Keys
from adray.representation.contrastive.info_nce import Pairs, Settings, false_negatives, info_nce


def vectors(n, d, seed):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def by_loops(queries, documents, tau, allowed=None, hard=None, frequency=None):
    """Both directions, in NumPy, one exponential at a time."""
    q, d = queries.numpy(), documents.numpy()
    n = len(q)
    allowed = np.ones((n, n), bool) if allowed is None else allowed
    total = 0.0
    for a, b, column, wrong in ((q, d, 1, hard), (d, q, 0, None)):
        for i in range(n):

            def logit(j, a=a, b=b, i=i, column=column):
                return a[i] @ b[j] / tau - (0 if frequency is None else float(frequency[j, column]) + math.log(n))

            others = [logit(j) for j in range(n) if j != i and allowed[i, j]]
            others += [] if wrong is None else [a[i] @ w / tau for w in wrong.numpy()]
            total += -logit(i) + math.log(sum(math.exp(x) for x in [logit(i), *others]))
    return total / (2 * n)


@pytest.mark.parametrize("tau", [0.05, 0.3, 1.0])
def test_loss_is_the_formula(tau):
    q, d = vectors(7, 5, 1), vectors(7, 5, 2)
    assert float(info_nce(Pairs(q, d), tau, Settings(margin=None)).loss) == pytest.approx(by_loops(q, d, tau), abs=1e-9)


def test_one_direction():
    q, d = vectors(6, 4, 1), vectors(6, 4, 2)
    expected = -torch.log_softmax(q @ d.T / 0.2, dim=1).diagonal().mean()
    assert float(info_nce(Pairs(q, d), 0.2, Settings(margin=None, both=False)).loss) == pytest.approx(float(expected))


def test_chance_and_floor():
    same = F.normalize(torch.ones(16, 8), dim=1)
    outcome = info_nce(Pairs(same, same), 0.2, Settings())
    assert float(outcome.loss) == pytest.approx(math.log(16), abs=1e-5)
    assert float(outcome.chance) == pytest.approx(math.log(16), abs=1e-5)
    perfect = torch.eye(16)
    outcome = info_nce(Pairs(perfect, perfect), 0.2, Settings())
    assert float(outcome.loss) == pytest.approx(math.log(1 + 15 * math.exp(-5)), abs=1e-6)
    assert float(outcome.floor) == pytest.approx(float(outcome.loss), abs=1e-6)
    assert float(outcome.negatives) == 15 and float(outcome.correct) == 1


def test_smaller_temperature_sharpens():
    q, d = vectors(6, 4, 1), vectors(6, 4, 1)
    losses = [float(info_nce(Pairs(q, d), tau, Settings()).loss) for tau in (1.0, 0.3, 0.1)]
    assert losses == sorted(losses, reverse=True)


def test_hard_negatives_come_after_all_positives():
    q, d, hard = vectors(5, 4, 1), vectors(5, 4, 2), vectors(10, 4, 3)
    outcome = info_nce(Pairs(q, d, hard=hard), 0.3, Settings(margin=None))
    assert float(outcome.loss) == pytest.approx(by_loops(q, d, 0.3, hard=hard), abs=1e-9)
    # 4 others and 10 hard ones forward, 4 others back.
    assert float(outcome.negatives) == 9


def test_log_frequency_is_subtracted():
    q, d = vectors(6, 4, 1), vectors(6, 4, 2)
    frequency = torch.log(torch.rand(6, 2, generator=torch.Generator().manual_seed(3)))
    found = float(info_nce(Pairs(q, d, log_frequency=frequency), 0.3, Settings(margin=None)).loss)
    assert found == pytest.approx(by_loops(q, d, 0.3, frequency=frequency), abs=1e-6)


def test_a_hard_negative_weighs_as_much_as_a_column_expected_once_in_the_batch():
    q, d, hard = vectors(6, 4, 1), vectors(6, 4, 2), vectors(6, 4, 3)
    even = torch.full((6, 2), -math.log(6))
    found = info_nce(Pairs(q, d, hard=hard, log_frequency=even), 0.3, Settings(margin=None))
    assert float(found.loss) == pytest.approx(by_loops(q, d, 0.3, hard=hard), abs=1e-6)
    rarer = info_nce(Pairs(q, d, hard=hard, log_frequency=even - 1), 0.3, Settings(margin=None))
    assert float(rarer.loss) == pytest.approx(by_loops(q, d, 0.3, hard=hard, frequency=even - 1), abs=1e-6)


def test_matryoshka_averages_the_lengths():
    q, d = vectors(6, 8, 1), vectors(6, 8, 2)
    each = [by_loops(F.normalize(q[:, :k], dim=1), F.normalize(d[:, :k], dim=1), 0.3) for k in (2, 8)]
    assert float(info_nce(Pairs(q, d), 0.3, Settings(margin=None, dims=(2, 8))).loss) == pytest.approx(sum(each) / 2, abs=1e-9)


def keys(skus, pictures=None, copies=None):
    nothing = [[0]] * len(skus)
    return Keys(torch.tensor(skus), torch.tensor(pictures or nothing), torch.tensor(copies or nothing))


def test_the_same_thing_is_no_negative():
    q, d = vectors(5, 4, 1), vectors(5, 4, 2)
    # Rows 0 and 1: one SKU. Rows 1 and 2: a picture in common. Rows 3 and 4: the same copy, in different places.
    known = keys([7, 7, 8, 9, 10], [[1, 0], [2, 3], [3, 4], [5, 0], [6, 0]], [[0, 0], [0, 0], [0, 0], [11, 12], [13, 11]])
    allowed = np.ones((5, 5), bool)
    for i, j in ((0, 1), (1, 2), (3, 4)):
        allowed[i, j] = allowed[j, i] = False
    outcome = info_nce(Pairs(q, d, known), 0.3, Settings(margin=None))
    assert float(outcome.loss) == pytest.approx(by_loops(q, d, 0.3, allowed), abs=1e-9)
    assert float(outcome.negatives) == pytest.approx((3 + 2 + 3 + 3 + 3) / 5)


def test_zero_keys_equal_nothing():
    assert not keys([0, 0], [[0], [0]], [[0], [0]]).same(keys([0, 0], [[0], [0]], [[0], [0]])).any()


def test_margin_masks_what_scores_above_the_positive():
    scores = torch.tensor([[0.5, 0.59, 0.61, -1.0], [0.9, 0.2, 0.29, 0.31]])
    mask = false_negatives(scores, torch.tensor([0, 1]), None, None, 0.1)
    assert mask.tolist() == [[False, False, True, False], [True, False, False, True]]


def test_a_row_without_negatives_stays_finite():
    q = vectors(3, 4, 1).requires_grad_()
    outcome = info_nce(Pairs(q, vectors(3, 4, 2), keys([4, 4, 4])), 0.05, Settings())
    outcome.loss.backward()
    assert float(outcome.loss.detach()) == 0 and float(outcome.negatives) == 0
    assert torch.isfinite(q.grad).all() and not q.grad.any()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(0, 2**31), st.sampled_from([None, 0.1]))
def test_a_positive_is_never_masked(n, seed, margin):
    scores = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    skus = torch.randint(1, 4, (n,), generator=torch.Generator().manual_seed(seed + 1))
    known = keys(skus.tolist())
    mask = false_negatives(scores, torch.arange(n), known, known, margin)
    assert not mask.diagonal().any()
    assert all(mask[i, j] for i in range(n) for j in range(n) if i != j and skus[i] == skus[j])
