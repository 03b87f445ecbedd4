"""Weighted k-nearest-neighbour classification of frozen vectors, as DINO judges representations (Caron et al. 2021, section 4.1)."""

from __future__ import annotations

import numpy as np

_CHUNK = 1024


def weighted_knn(
    train_vectors: np.ndarray, train_labels: np.ndarray, test_vectors: np.ndarray, k: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Predict labels by a vote of the k most similar training vectors, each with weight `exp(cosine / temperature)`.

    Args:
        train_vectors: float `[n, d]`; any length, they are normalised here.
        train_labels: int or string `[n]`.
        test_vectors: float `[m, d]`.
        k: Neighbours; all of the training vectors when there are fewer.
        temperature: The smaller, the more the nearest decide.

    Returns:
        `[m]` of the labels' type. Of equal votes the smaller label wins.

    Raises:
        ValueError: If there is no training vector or the shapes do not belong together.
    """
    if len(train_vectors) == 0 or len(train_vectors) != len(train_labels) or train_vectors.shape[1] != test_vectors.shape[1]:
        raise ValueError(
            f"{train_vectors.shape} training vectors, {len(train_labels)} labels and {test_vectors.shape} test vectors do not fit together"
        )
    names, labels = np.unique(train_labels, return_inverse=True)
    bank = _unit(train_vectors)
    k = min(k, len(bank))
    found = np.empty(len(test_vectors), dtype=np.int64)
    for start in range(0, len(test_vectors), _CHUNK):
        similarity = _unit(test_vectors[start : start + _CHUNK]) @ bank.T
        near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weights = np.exp(np.take_along_axis(similarity, near, axis=1).astype(np.float64) / temperature)
        votes = np.zeros((len(similarity), len(names)))
        np.add.at(votes, (np.arange(len(similarity))[:, None], labels[near]), weights)
        found[start : start + _CHUNK] = votes.argmax(axis=1)
    return names[found]


def place_by_index(parts: list[tuple[np.ndarray, np.ndarray]], rows: int) -> np.ndarray:
    """Put together the vectors that several ranks extracted, in table order.

    Samplers pad so that every rank has as many rows, so some come twice; writing by index keeps each once.

    Args:
        parts: Per rank the int `[m]` row indices and the float `[m, d]` vectors.
        rows: Rows of the table.

    Returns:
        float `[rows, d]`.

    Raises:
        ValueError: If a row is missing or an index lies outside the table.
    """
    result = np.zeros((rows, parts[0][1].shape[1]), parts[0][1].dtype)
    seen = np.zeros(rows, bool)
    for index, vectors in parts:
        if len(index) and not 0 <= index.min() <= index.max() < rows:
            raise ValueError(f"row indices {index.min()}..{index.max()} lie outside a table of {rows} rows")
        result[index] = vectors
        seen[index] = True
    if not seen.all():
        raise ValueError(f"{int((~seen).sum())} of {rows} rows were extracted by no rank, the first is {int(np.argmin(seen))}")
    return result


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
