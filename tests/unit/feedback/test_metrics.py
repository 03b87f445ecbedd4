from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adray.feedback.metrics import average_precision, confusion, inspection_metrics


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit. Recall steps 1/2 at precision 1, 1/2 at precision 2/3.
    assert average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7])) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # Equal scores are one threshold: precision 1/2 at recall 1.
    assert average_precision(np.array([True, False]), np.array([0.4, 0.4])) == pytest.approx(0.5)
    assert np.isnan(average_precision(np.array([False]), np.array([0.4])))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_average_precision_against_all_thresholds(rows):
    positive, scores = np.array([p for p, _ in rows]), np.array([s for _, s in rows])
    if not positive.any():
        return
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = positive[taken].sum() / positive.sum()
        total += (recall - before) * positive[taken].mean()
        before = recall
    assert average_precision(positive, scores) == pytest.approx(total)


def test_figures_by_hand():
    labels = np.array([0, 0, 0, 1, 2, 4])
    predicted = np.array([0, 0, 1, 1, 0, 4])
    found = inspection_metrics(labels, 0.9 * np.eye(5)[predicted] + 0.02)
    # Said available: 3, of which 2 are; 3 are available.
    assert found["feedback/precision"] == pytest.approx(2 / 3)
    assert found["feedback/recall"] == pytest.approx(2 / 3)
    assert found["feedback/f1"] == pytest.approx(2 / 3)
    assert found["feedback/accuracy"] == pytest.approx(4 / 6)
    assert found["feedback/binary_accuracy"] == pytest.approx(4 / 6)
    assert found["feedback/f1/space_mismatch"] == pytest.approx(2 / 3)
    assert found["feedback/macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0 + 0 + 1) / 5)
    assert confusion(labels, predicted)[2].tolist() == [1, 0, 0, 0, 0]


def test_a_binary_figure_of_the_paper_is_the_harmonic_mean():
    # Table 1, RFNet: P 86.45, R 85.23, F1 85.83.
    good, said = 8523.0, 8523.0 / 0.8645
    from adray.feedback.metrics import f1_score

    assert 100 * f1_score(good, said, 10000.0) == pytest.approx(85.83, abs=0.01)
