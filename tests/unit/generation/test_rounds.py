"""The loop alone, with a judge whose chance is known: rates, growth, attempts, and what is kept of failures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from adray.data.labels import LABELS
from adray.generation.prompts import Drawn
from adray.generation.recurrent.rounds import Made, Refusals, Wanted, is_accepted, recur

EMPTY = np.zeros((1, 1, 4), np.uint8)


def wanted(n):
    return [Wanted(f"p{i}", 0, f"s{i}", "", (EMPTY,)) for i in range(n)]


def made(one, attempt=0, probabilities=(1.0, 0, 0, 0, 0), accepted=True):
    values = np.array(probabilities, np.float32)
    return Made(one, attempt, Drawn("", "", None, 0), EMPTY, EMPTY[..., :3], values, accepted)


def flips(chance, rng):
    def attempt(pending, number):
        for one in pending:
            yield made(one, number, accepted=bool(rng.random() < chance))

    return attempt


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.564, 0.855, 1.0])
def test_the_rate_after_k_tries_is_that_of_independent_tries(chance):
    """1 - (1 - p)^k of 4,000 products, within the interval that holds all but one in 10^6 binomial draws."""
    pictures = list(recur(wanted(4000), flips(chance, np.random.default_rng(7)), 5))
    for k in range(1, 6):
        rate = 1 - (1 - chance) ** k
        accepted = sum(one.accepted for one in pictures if one.attempt < k)
        low, high = binom.interval(1 - 1e-6, 4000, rate) if 0 < rate < 1 else (4000 * rate,) * 2
        assert low <= accepted <= high


@given(seed=st.integers(0, 10**6), n=st.integers(0, 30), attempts=st.integers(1, 6), chance=st.floats(0, 1))
def test_only_what_was_refused_is_made_again(seed, n, attempts, chance):
    by_id: dict[str, list[Made]] = {}
    for one in recur(wanted(n), flips(chance, np.random.default_rng(seed)), attempts):
        by_id.setdefault(one.wanted.id, []).append(one)
    assert len(by_id) == n
    for pictures in by_id.values():
        assert [one.attempt for one in pictures] == list(range(len(pictures)))
        assert len(pictures) <= attempts
        assert not any(one.accepted for one in pictures[:-1])
        assert pictures[-1].accepted or len(pictures) == attempts
        # Once accepted it stays so: the accepted of k attempts are those of k - 1 and more.
        assert sum(one.accepted for one in pictures) <= 1


def test_each_round_asks_for_the_refused_alone():
    asked = []

    def attempt(pending, number):
        asked.append([one.request for one in pending])
        for one in pending:
            yield made(one, number, accepted=number >= int(one.request[1:]))

    list(recur(wanted(4), attempt, 3))
    assert asked == [["p0", "p1", "p2", "p3"], ["p1", "p2", "p3"], ["p2", "p3"]]


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=5, max_size=5), min_size=1, max_size=6))
def test_the_best_refused_picture_is_kept_and_the_commonest_label_named(rows):
    one = wanted(1)[0]
    pictures = [made(one, k, np.array(row) / sum(row), accepted=False) for k, row in enumerate(rows)]
    refusals = Refusals.begin(pictures[0])
    for picture in pictures[1:]:
        refusals.add(picture)
    best = max(picture.available for picture in pictures)
    assert refusals.best.available == best
    assert refusals.best.attempt == next(p.attempt for p in pictures if p.available == best)
    given_labels = [picture.label for picture in pictures]
    assert given_labels.count(refusals.label) == max(given_labels.count(label) for label in LABELS)


def test_of_equally_common_labels_the_more_probable_is_named():
    one = wanted(1)[0]
    refusals = Refusals.begin(made(one, 0, (0.2, 0.5, 0.3, 0, 0), accepted=False))
    refusals.add(made(one, 1, (0.1, 0.0, 0.9, 0, 0), accepted=False))
    assert refusals.label == "size_mismatch"


def test_acceptance_by_label_or_by_threshold():
    unsure = np.array([0.4, 0.3, 0.1, 0.1, 0.1], np.float32)
    assert is_accepted(unsure, None) and is_accepted(unsure, 0.4) and not is_accepted(unsure, 0.5)
    assert not is_accepted(unsure[::-1], None)


def test_ids_of_pictures_never_clash():
    """A request may be called like another's copy."""
    names = [Wanted(request, copy, "s", "", ()) for request in ("a", "a.1", "a.1.0") for copy in (0, 1)]
    ids = {made(one, attempt).image_id for one in names for attempt in (0, 1)}
    assert len(ids) == 12
