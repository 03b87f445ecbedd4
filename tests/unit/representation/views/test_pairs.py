"""Non-pixel views: what each kind of pair shows, how often kinds come, and what happens where one is impossible."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from adray.representation.creatives import Creatives
from adray.representation.views.keyed import Keyed
from adray.representation.views.pairs import PAIR_KINDS, PairConfig, dropped_words, plan_pairs, siblings

N = 400
PICTURE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(scope="module")
def creatives():
    """SKUs of two creatives each; all have both modalities."""
    return Creatives(
        [f"c{i}" for i in range(N)], [f"s{i // 2}" for i in range(N)], [PICTURE] * N, [f"soft warm winter coat {i}" for i in range(N)]
    )


def plan(creatives, epoch=0, rows=None, **weights):
    rows = np.arange(len(creatives)) if rows is None else rows
    config = PairConfig(**{"augmented": 0.0, **weights})
    return plan_pairs(creatives, rows, siblings(creatives.sku_ids), Keyed.of(0, epoch, torch.from_numpy(rows), 2), config)


def test_kinds_come_as_often_as_weighted(creatives):
    kinds = np.concatenate([plan(creatives, epoch, augmented=2, same_sku=1, image_copy=1).kinds for epoch in range(10)])
    shares = np.bincount(kinds, minlength=5) / len(kinds)
    assert shares == pytest.approx([0.5, 0, 0.25, 0, 0.25], abs=0.03)


def test_same_sku_takes_the_sibling(creatives):
    found = plan(creatives, same_sku=1)
    assert [look.row for look in found.second] == [i ^ 1 for i in range(N)]
    assert [look.row for look in found.first] == list(range(N))
    assert found.second[0].copy == creatives.copies[1]


def test_image_copy_shows_one_modality_each(creatives):
    found = plan(creatives, image_copy=1)
    assert all(a.picture and not a.copy for a in found.first)
    assert all(not b.picture and b.copy == creatives.copies[b.row] for b in found.second)


def test_modality_hides_either_as_often(creatives):
    found = plan(creatives, modality=1)
    assert all(a.picture and a.copy for a in found.first)
    alone = [b.picture for b in found.second]
    assert all(b.picture != bool(b.copy) for b in found.second)
    assert 0.4 < np.mean(alone) < 0.6


def test_copy_dropout_leaves_other_words_out_of_each_view(creatives):
    found = plan(creatives, copy_dropout=1, word_dropout=0.4)
    lengths = [len(look.copy.split()) for look in (*found.first, *found.second)]
    assert np.mean(lengths) / 5 == pytest.approx(0.6, abs=0.04) and min(lengths) >= 1
    assert sum(a.copy != b.copy for a, b in zip(found.first, found.second, strict=True)) > 0.8 * N
    for look in found.first:
        words = iter(creatives.copies[look.row].split())
        assert all(word in words for word in look.copy.split()), "order is kept"


def test_what_is_impossible_becomes_two_augmented_views():
    poor = Creatives(["a", "b", "c"], ["x", "y", "z"], [PICTURE, None, PICTURE], ["", "only copy", " "])
    for kind in PAIR_KINDS[1:]:
        kinds = plan(poor, **{kind: 1}).kinds
        possible = [kind == "copy_dropout" and bool(copy.strip()) for copy in poor.copies]
        assert [PAIR_KINDS[k] != "augmented" for k in kinds] == possible


def test_a_pair_does_not_depend_on_its_batch(creatives):
    weights = {kind: 1 for kind in PAIR_KINDS}
    whole, part = plan(creatives, **weights), plan(creatives, rows=np.array([17, 3]), **weights)
    assert (part.first[0], part.second[0]) == (whole.first[17], whole.second[17])
    assert (part.first[1], part.second[1]) == (whole.first[3], whole.second[3])


def test_text_without_spaces_is_taken_by_characters():
    key = Keyed.of(0, 0, torch.tensor([1]), 0)
    kept = dropped_words("冬季保暖羽绒服限时优惠", key, "w", 0.5)
    assert 0 < len(kept) < 11 and set(kept) <= set("冬季保暖羽绒服限时优惠") and " " not in kept


def test_all_weights_zero_is_refused():
    with pytest.raises(ValidationError, match="every kind of pair has weight 0"):
        PairConfig(augmented=0)
