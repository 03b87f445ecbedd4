"""Weighted kNN against a slow version written from the protocol; rows put together by index."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.representation.quality.knn import place_by_index, weighted_knn


def slow(train, labels, test, k, temperature):
    found = []
    for x in test:
        cosines = [float(x @ t / (np.linalg.norm(x) * np.linalg.norm(t))) for t in train]
        nearest = sorted(range(len(train)), key=lambda i: -cosines[i])[:k]
        votes = defaultdict(float)
        for i in nearest:
            votes[labels[i]] += math.exp(cosines[i] / temperature)
        found.append(max(sorted(votes), key=lambda name: votes[name]))
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 25), st.integers(1, 50), st.sampled_from([0.07, 0.5]), st.integers(0, 10**6))
def test_it_votes_as_the_protocol_says(n, m, k, temperature, seed):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(n, 6)).astype(np.float32), rng.normal(size=(m, 6)).astype(np.float32)
    labels = rng.integers(0, 4, n)
    assert weighted_knn(train, labels, test, k, temperature).tolist() == slow(train, labels, test, k, temperature)


def test_labels_may_be_text_and_lengths_do_not_matter():
    train = np.array([[10.0, 0], [0, 0.1], [0.1, 1]])
    assert weighted_knn(train, np.array(["hat", "shoe", "shoe"]), np.array([[0.5, 0.01], [0, 70.0]]), k=1).tolist() == ["hat", "shoe"]


def test_many_far_neighbours_do_not_outvote_a_near_one_at_a_low_temperature():
    train = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    test = np.array([[1.0, 0.2]])
    assert weighted_knn(train, np.array([0, 1, 1, 1]), test, k=4, temperature=0.07).tolist() == [0]
    assert weighted_knn(train, np.array([0, 1, 1, 1]), test, k=4, temperature=10.0).tolist() == [1]


def test_large_sets_go_in_chunks():
    rng = np.random.default_rng(0)
    centres = np.eye(5, dtype=np.float32)
    labels = rng.integers(0, 5, 2500)
    noisy = centres[labels] + 0.05 * rng.normal(size=(2500, 5)).astype(np.float32)
    assert (weighted_knn(centres, np.arange(5), noisy, k=1) == labels).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="do not fit together"):
        weighted_knn(np.ones((3, 2)), np.zeros(3), np.ones((1, 4)))
    with pytest.raises(ValueError, match="do not fit together"):
        weighted_knn(np.ones((0, 2)), np.zeros(0), np.ones((1, 2)))


def test_padded_ranks_give_each_row_once():
    vectors = np.arange(14.0).reshape(7, 2)
    parts = []
    for rank in range(3):
        index = (np.arange(3) * 3 + rank) % 7  # a sampler that wraps round so that all ranks have three rows
        parts.append((index, vectors[index]))
    assert (place_by_index(parts, 7) == vectors).all()


def test_missing_and_foreign_rows_are_refused():
    with pytest.raises(ValueError, match="1 of 3 rows were extracted by no rank, the first is 1"):
        place_by_index([(np.array([0, 2]), np.ones((2, 2)))], 3)
    with pytest.raises(ValueError, match="outside a table of 2 rows"):
        place_by_index([(np.array([0, 2]), np.ones((2, 2)))], 2)
