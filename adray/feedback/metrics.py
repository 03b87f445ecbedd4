"""How good an inspector is: precision, recall, F1 and average precision with `available` as the positive class."""

from __future__ import annotations

import numpy as np

from adray.data.labels import LABELS

AVAILABLE = 0
"""Index of the positive class in `LABELS`."""


def confusion(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """int64 `[5, 5]`: rows are true labels, columns what was predicted."""
    table = np.zeros((len(LABELS), len(LABELS)), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return table


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall steps: the sum over thresholds of (R_k - R_(k-1)) P_k; equal scores are one threshold.

    Args:
        positive: bool `[n]`.
        scores: float `[n]`, higher for what is believed positive.

    Returns:
        In [0, 1]; NaN without a positive row.
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision, recall = hits[ends] / (ends + 1.0), hits[ends] / positive.sum()
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def f1_score(true_positive: float, predicted: float, actual: float) -> float:
    """2 TP / (predicted + actual): the harmonic mean of precision and recall; 0 where there is nothing of either."""
    return 2.0 * true_positive / (predicted + actual) if predicted + actual else 0.0


def inspection_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """All figures. A picture counts as accepted when `available` is its most probable label.

    Args:
        labels: int64 `[n]`, true labels.
        probabilities: float `[n, 5]`.

    Returns:
        `feedback/precision`, `recall`, `f1`, `ap` (positive: available), `accuracy` (five labels), `binary_accuracy`, `macro_f1`,
        `f1/<label>`, `accepted_share`.
    """
    predicted = probabilities.argmax(axis=1)
    table = confusion(labels, predicted)
    true, said, actual = np.diag(table), table.sum(axis=0), table.sum(axis=1)
    each = [f1_score(t, s, a) for t, s, a in zip(true, said, actual, strict=True)]
    accepted, good = predicted == AVAILABLE, labels == AVAILABLE
    return {
        "feedback/precision": float(true[AVAILABLE] / max(said[AVAILABLE], 1)),
        "feedback/recall": float(true[AVAILABLE] / max(actual[AVAILABLE], 1)),
        "feedback/f1": each[AVAILABLE],
        "feedback/ap": average_precision(good, probabilities[:, AVAILABLE]),
        "feedback/accuracy": float(true.sum() / len(labels)),
        "feedback/binary_accuracy": float(np.mean(accepted == good)),
        "feedback/macro_f1": float(np.mean(each)),
        "feedback/accepted_share": float(accepted.mean()),
        **{f"feedback/f1/{label}": value for label, value in zip(LABELS, each, strict=True)},
    }
