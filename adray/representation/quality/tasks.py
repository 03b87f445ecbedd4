"""Retrieval tasks: queries, a gallery, and what counts as right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adray.bootstrap import Interval, sums_intervals
from adray.representation.quality.retrieval_metrics import (
    chance_hit,
    chance_recall,
    chance_reciprocal_rank,
    query_metrics,
)

_BLOCK = 64


@dataclass(frozen=True)
class Task:
    """One question, asked over n creatives.

    Attributes:
        name: What the metrics call it.
        queries: float32 `[n, d]`, length 1; a row of zeros where a creative has no such vector.
        gallery: float32 `[n, d]`, likewise.
        labels: int `[n]`: a gallery row is right when it has the query's label. Negative: not asked about.
        without_self: Leave the query's own row out of the gallery.
    """

    name: str
    queries: np.ndarray
    gallery: np.ndarray
    labels: np.ndarray
    without_self: bool


@dataclass(frozen=True)
class Answers:
    """What a task gave for some queries.

    Attributes:
        rows: int `[q]`, the creatives asked about.
        neighbours: int `[q, K]`, gallery rows, best first.
        values: By metric, float64 `[q]`.
        chance: By metric, what a random order gives on average over the queries.
    """

    rows: np.ndarray
    neighbours: np.ndarray
    values: dict[str, np.ndarray]
    chance: dict[str, float]

    def intervals(self, groups: np.ndarray, resamples: int, seed: int) -> dict[str, Interval]:
        """Means with their bootstrap intervals, drawing whole groups (SKUs).

        Args:
            groups: int `[n]`, each creative's group.
            resamples: Draws.
            seed: Of the draws.
        """
        names = list(self.values)
        table = np.stack([np.ones(len(self.rows)), *self.values.values()], axis=1)
        sums = _by_group(table, groups[self.rows])
        figures = {name: (lambda s, i=i: s[..., i] / s[..., 0]) for i, name in enumerate(names, 1)}
        return sums_intervals(sums, figures, resamples=resamples, seed=seed)


def ask(task: Task, asked: np.ndarray, ks: list[int]) -> Answers | None:
    """Search exactly for the queries among `asked` that have anything right to find.

    Args:
        task: The task.
        asked: bool `[n]`.
        ks: Cut-offs.

    Returns:
        The answers; None when no query has anything right to find.
    """
    has_query, has_entry = task.queries.any(axis=1), task.gallery.any(axis=1) & (task.labels >= 0)
    sizes = np.bincount(task.labels[has_entry], minlength=max(int(task.labels.max(initial=0)) + 1, 1))
    own = has_entry & task.without_self
    relevant = np.where(task.labels >= 0, sizes[np.maximum(task.labels, 0)], 0) - own
    rows = np.flatnonzero(asked & has_query & (task.labels >= 0) & (relevant > 0))
    if not len(rows):
        return None
    entries = np.flatnonzero(has_entry)
    candidates = len(entries) - own[rows].astype(np.int64)
    neighbours = nearest(task.queries, task.gallery, rows, entries, max(ks), task.without_self)
    right = (neighbours >= 0) & (task.labels[neighbours] == task.labels[rows][:, None])
    chance = {"mrr": float(chance_reciprocal_rank(candidates, relevant[rows], max(ks)).mean())}
    for k in ks:
        chance[f"recall_at_{k}"] = float(chance_recall(candidates, k).mean())
        chance[f"hit_at_{k}"] = float(chance_hit(candidates, relevant[rows], k).mean())
    values = query_metrics(right, relevant[rows], ks)
    values["share_right"] = right.mean(axis=1)
    # A random neighbour has the query's label with probability R / N: over queries, the sum of squared label shares.
    chance["share_right"] = float((relevant[rows] / candidates).mean())
    return Answers(rows, neighbours, values, chance)


def nearest(queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, entries: np.ndarray, k: int, without_self: bool) -> np.ndarray:
    """Rows of the k nearest gallery entries by inner product, by exact search.

    Equal scores come in an order that is drawn anew for every few queries: by row number the same entries would win every tie,
    and vectors that say nothing would land above or below chance.

    Args:
        queries: `[n, d]`.
        gallery: `[n, d]`.
        rows: int `[q]`, which queries.
        entries: int `[m]`, which gallery rows, ascending.
        k: Neighbours.
        without_self: A query's own row is not its neighbour.

    Returns:
        int64 `[q, k]`; -1 where there are fewer.
    """
    found = np.full((len(rows), k), -1, np.int64)
    bank = gallery[entries]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        mixed = np.random.default_rng(start).permutation(len(entries))
        scores = (queries[block] @ bank.T)[:, mixed]
        if without_self:
            scores[block[:, None] == entries[mixed][None]] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        chosen = entries[mixed][order]
        chosen[~np.isfinite(np.take_along_axis(scores, order, 1))] = -1
        found[start : start + len(block), : chosen.shape[1]] = chosen
    return found


def paired_difference(new: Answers, old: Answers, metric: str, groups: np.ndarray, resamples: int, seed: int) -> Interval | None:
    """New minus old on the queries that both answered, with an interval that draws the same SKUs for both."""
    shared, a, b = np.intersect1d(new.rows, old.rows, return_indices=True)
    if not len(shared):
        return None
    table = np.stack([np.ones(len(shared)), new.values[metric][a] - old.values[metric][b]], axis=1)
    sums = _by_group(table, groups[shared])
    return sums_intervals(sums, {"": lambda s: s[..., 1] / s[..., 0]}, resamples=resamples, seed=seed)[""]


def _by_group(table: np.ndarray, groups: np.ndarray) -> np.ndarray:
    _, places = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(places.max()) + 1, table.shape[1]))
    np.add.at(sums, places, table)
    return sums
