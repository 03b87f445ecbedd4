"""Metrics against hand calculation and against second implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.representation.quality import retrieval_metrics as m
from adray.representation.quality.geometry import alignment, uniformity


def test_one_relevant_thing_at_rank_three():
    relevance, relevant = np.array([[False, False, True, False]]), np.array([1])
    found = m.query_metrics(relevance, relevant, [1, 4])
    assert found["mrr"][0] == pytest.approx(1 / 3)
    assert found["ndcg_at_4"][0] == pytest.approx(0.5)
    assert found["hit_at_1"][0] == 0
    assert found["hit_at_4"][0] == found["recall_at_4"][0] == 1
    assert found["map_at_4"][0] == pytest.approx(1 / 3)


def test_graded_list_3_2_0_1():
    grades = np.array([[3, 2, 0, 1]])
    assert m.ndcg_at(grades, grades, 4)[0] == pytest.approx(0.98544, abs=5e-6)
    assert m.ndcg_at(grades, grades, 4, exponential=True)[0] == pytest.approx(0.99262, abs=5e-6)


def test_recall_and_hit_are_two_things():
    relevance, relevant = np.array([[True, False, False, True]]), np.array([4])
    assert m.recall_at(relevance, relevant, 4)[0] == 0.5
    assert m.hit_at(relevance, 4)[0] == 1


def by_hand(row: list[bool], relevant: int, k: int) -> dict[str, float]:
    hits = [i for i, right in enumerate(row[:k], 1) if right]
    ideal = sum(1 / math.log2(i + 1) for i in range(1, min(relevant, k) + 1))
    first = next((i for i, right in enumerate(row, 1) if right), None)
    return {
        f"recall_at_{k}": len(hits) / relevant,
        f"hit_at_{k}": float(bool(hits)),
        f"map_at_{k}": sum(sum(row[:i]) / i for i in hits) / min(relevant, k),
        f"ndcg_at_{k}": sum(1 / math.log2(i + 1) for i in hits) / ideal,
        "mrr": 1 / first if first else 0.0,
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=6), st.integers(0, 5), st.integers(1, 7))
def test_metrics_are_those_of_a_loop(rows, more, k):
    relevance = np.array(rows)
    relevant = relevance.sum(1) + more
    relevant = np.maximum(relevant, 1)
    found = m.query_metrics(relevance, relevant, [k])
    for i, row in enumerate(rows):
        for name, value in by_hand(row, int(relevant[i]), k).items():
            assert found[name][i] == pytest.approx(value), name


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.booleans(), st.integers(1, 6))
def test_ndcg_is_dcg_over_the_best_order_of_all(grades, exponential, k):
    def dcg(order):
        return sum((2**g - 1 if exponential else g) / math.log2(i + 2) for i, g in enumerate(order[:k]))

    best = max(dcg(order) for order in itertools.permutations(grades))
    found = m.ndcg_at(np.array([grades]), np.array([grades]), k, exponential)[0]
    assert found == pytest.approx(dcg(grades) / best if best else 0.0)


def test_binary_ndcg_is_graded_ndcg_of_zeros_and_ones():
    rng = np.random.default_rng(0)
    relevance = rng.random((20, 8)) < 0.3
    relevance[:, 0] |= ~relevance.any(1)
    relevant = relevance.sum(1)
    np.testing.assert_allclose(m.binary_ndcg_at(relevance, relevant, 5), m.ndcg_at(relevance, relevance, 5))


@pytest.mark.parametrize(("candidates", "relevant", "k"), [(6, 1, 2), (6, 3, 2), (5, 4, 3), (7, 2, 7)])
def test_chance_is_the_mean_over_all_orders(candidates, relevant, k):
    orders = np.array(list(itertools.permutations([True] * relevant + [False] * (candidates - relevant))))
    r, n = np.full(len(orders), relevant), np.array([candidates])
    assert m.chance_recall(n, k)[0] == pytest.approx(m.recall_at(orders, r, k).mean())
    assert m.chance_hit(n, np.array([relevant]), k)[0] == pytest.approx(m.hit_at(orders, k).mean())
    assert m.chance_reciprocal_rank(n, np.array([relevant]), k)[0] == pytest.approx(m.reciprocal_rank(orders[:, :k]).mean())


@pytest.mark.parametrize(("dim", "expected"), [(256, -3.969), (128, -3.938)])
def test_uniformity_of_random_vectors(dim, expected):
    vectors = np.random.default_rng(1).normal(size=(5000, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert uniformity(vectors) == pytest.approx(expected, abs=0.01)


def test_uniformity_of_equal_vectors_is_zero_and_of_two_opposite_ones_minus_eight():
    assert uniformity(np.tile(np.eye(1, 8, dtype=np.float32), (10, 1))) == pytest.approx(0, abs=1e-6)
    assert uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)


def test_alignment_of_equal_opposite_and_orthogonal_pairs():
    x = np.eye(4)
    assert alignment(x, x) == 0
    assert alignment(x, -x) == pytest.approx(4)
    assert alignment(x, np.roll(x, 1, axis=0)) == pytest.approx(2)
