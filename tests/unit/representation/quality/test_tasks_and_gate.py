"""Tasks on vectors whose neighbours are known, and a gate whose every condition can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adray.bootstrap import Interval
from adray.representation.quality.config import QualityConfig
from adray.representation.quality.gate import Evidence, verdict
from adray.representation.quality.tasks import Task, ask, nearest, paired_difference

RNG = np.random.default_rng(0)


def unit(rows: int, dim: int = 16) -> np.ndarray:
    vectors = RNG.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_perfect_vectors_find_every_sibling():
    labels = np.arange(60) // 3
    vectors = unit(20)[labels]
    found = ask(Task("same_sku", vectors, vectors, labels, True), np.ones(60, bool), [1, 2])
    assert found is not None
    for name, value in (("recall_at_1", 0.5), ("recall_at_2", 1), ("hit_at_1", 1), ("mrr", 1), ("ndcg_at_2", 1), ("map_at_2", 1)):
        np.testing.assert_allclose(found.values[name], value, err_msg=name)
    assert found.chance["recall_at_2"] == pytest.approx(2 / 59)


def test_random_vectors_are_at_chance():
    labels = np.arange(1500) // 5
    vectors = unit(1500)
    found = ask(Task("same_sku", vectors, vectors, labels, True), np.ones(1500, bool), [10])
    assert found is not None
    for name in ("recall_at_10", "hit_at_10", "mrr", "share_right"):
        spread = found.values[name].std() / np.sqrt(1500)
        assert found.values[name].mean() == pytest.approx(found.chance[name], abs=4 * spread + 1e-4), name


def test_vectors_that_say_nothing_are_at_chance_whoever_is_asked():
    vectors = np.tile(np.eye(1, 16, dtype=np.float32), (1000, 1))
    labels = np.arange(1000)
    for asked in (labels < 300, labels >= 700):
        found = ask(Task("copy_to_image", vectors, vectors, labels, False), asked, [100])
        assert found is not None
        assert found.values["recall_at_100"].mean() == pytest.approx(found.chance["recall_at_100"], abs=0.07)


def test_a_query_is_never_its_own_neighbour():
    vectors = np.tile(unit(1), (5, 1))
    rows = np.arange(5)
    found = nearest(vectors, vectors, rows, rows, 4, True)
    assert [sorted(row) for row in found.tolist()] == [[j for j in range(5) if j != i] for i in range(5)]
    assert nearest(vectors, vectors, rows, rows, 7, True)[:, 4:].tolist() == [[-1] * 3] * 5


def test_rows_without_a_vector_or_anything_right_are_not_asked():
    vectors = unit(6)
    vectors[5] = 0
    labels = np.array([0, 0, 1, -1, 2, 2])
    found = ask(Task("t", vectors, vectors, labels, True), np.ones(6, bool), [3])
    assert found is not None
    # SKU 1 has one creative, SKU 2 one with a vector, and -1 is not asked about.
    assert found.rows.tolist() == [0, 1]
    # Only things that could be right are in the gallery: 0, 1, 2, 4.
    assert set(found.neighbours.ravel().tolist()) <= {0, 1, 2, 4, -1}


def test_across_modalities_the_own_row_is_what_is_looked_for():
    vectors = unit(8)
    labels = np.array([0, 0, 2, 3, 4, 5, 6, 7])
    found = ask(Task("copy_to_image", vectors, vectors, labels, False), np.ones(8, bool), [1])
    assert found is not None
    np.testing.assert_allclose(found.values["hit_at_1"], 1)
    assert found.values["recall_at_1"].tolist() == [0.5, 0.5, 1, 1, 1, 1, 1, 1]


def test_intervals_draw_skus_and_pairs_cancel():
    labels = np.arange(90) // 3
    good = unit(30)[labels] + 0.2 * unit(90)
    good /= np.linalg.norm(good, axis=1, keepdims=True)
    everyone = np.ones(90, bool)
    first = ask(Task("t", good, good, labels, True), everyone, [2])
    second = ask(Task("t", unit(90), unit(90), labels, True), everyone, [2])
    assert first is not None and second is not None
    interval = first.intervals(labels, 300, 0)["recall_at_2"]
    assert interval.groups == 30
    assert interval.value == pytest.approx(first.values["recall_at_2"].mean())
    same = paired_difference(first, first, "recall_at_2", labels, 300, 0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    change = paired_difference(first, second, "recall_at_2", labels, 300, 0)
    assert change.low > 0
    assert change.value == pytest.approx(first.values["recall_at_2"].mean() - second.values["recall_at_2"].mean())


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 50)


GOOD = Evidence(
    primary=interval(0.5, 0.6),
    primary_chance=0.1,
    differences={("new_sku", "image_to_image"): interval(0.01, 0.05), ("random", "same_sku"): interval(-0.02, 0.01)},
    ablation={name: interval(0.05, 0.1) for name in ("image_only", "copy_only", "image_shuffled")},
    uniformity=-2.5,
    ann_recall=0.995,
)


def failed(evidence: Evidence) -> list[str]:
    return [finding.name for finding in verdict(evidence, QualityConfig()) if not finding.passed]


def test_good_evidence_passes():
    assert failed(GOOD) == []
    assert failed(replace(GOOD, differences=None, ann_recall=None)) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"primary": None}, "image_to_image (new_sku) is measured"),
        ({"primary": interval(0.05, 0.4), "differences": None}, "image_to_image (new_sku) beats chance"),
        ({"differences": {("random", "same_sku"): interval(0, 1)}}, "image_to_image (new_sku) improves"),
        ({"differences": {("new_sku", "image_to_image"): interval(-0.01, 0.05)}}, "image_to_image (new_sku) improves"),
        ({"differences": {**GOOD.differences, ("random", "category"): interval(-0.09, -0.01)}}, "category (random) does not drop"),
        ({"ablation": {"image_only": interval(-0.01, 0.02)}}, "copy adds to the picture"),
        ({"ablation": {"copy_only": interval(0, 0)}}, "the picture adds to the copy"),
        ({"ablation": {"image_shuffled": interval(-0.2, 0.2)}}, "wrong pictures hurt"),
        ({"uniformity": -0.01}, "vectors are spread"),
        ({"ann_recall": 0.98}, "the index finds what exact search finds"),
    ],
)
def test_each_condition_can_fail_alone(change, name):
    assert failed(replace(GOOD, **change)) == [name]
