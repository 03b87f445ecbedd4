"""All tasks over all splits: what is asked, what came out, and how the two versions differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adray.bootstrap import Interval, ratio_interval
from adray.representation.quality.config import QualityConfig
from adray.representation.quality.judged import Judged
from adray.representation.quality.knn import weighted_knn
from adray.representation.quality.tasks import Answers, Task, ask, paired_difference

FULL = "full"


@dataclass(frozen=True)
class Probe:
    """How well a label can be read off the nearest vectors.

    Attributes:
        accuracy: Share of queried creatives whose label the weighted vote names, with its interval.
        chance: Share of the most frequent label among them, which is what the best constant answer reaches.
    """

    accuracy: Interval
    chance: float


def codes(values: list[str | None]) -> np.ndarray:
    """Texts as int `[n]`; None is -1."""
    names = {name: i for i, name in enumerate(sorted({value for value in values if value is not None}))}
    return np.array([-1 if value is None else names[value] for value in values], np.int64)


def make_tasks(judged: Judged, vectors: Mapping[str, np.ndarray]) -> list[Task]:
    """The tasks that the vectors at hand allow.

    Args:
        judged: The creatives.
        vectors: By variant (`full`, `image_only`, `copy_only`).
    """
    full, image, copy = (vectors.get(name) for name in (FULL, "image_only", "copy_only"))
    found = []
    if full is not None:
        found.append(Task("same_sku", full, full, judged.skus, True))
        if "category" in judged.labels:
            found.append(Task("category", full, full, codes(judged.labels["category"]), True))
    if image is not None:
        found.append(Task("image_to_image", image, image, judged.skus, True))
    if image is not None and copy is not None:
        found.append(Task("copy_to_image", copy, image, judged.copies, False))
        found.append(Task("image_to_copy", image, copy, judged.copies, False))
    return found


def key_metric(task: str, ks: list[int]) -> str:
    """The metric a task is judged by: the share of right neighbours for categories, which are large, else Recall@k."""
    return "share_right" if task == "category" else f"recall_at_{max(ks)}"


def measure(tasks: list[Task], splits: Mapping[str, np.ndarray], ks: list[int]) -> dict[tuple[str, str], Answers]:
    """Answers by (split, task); those without a query are absent."""
    found = {}
    for split, asked in splits.items():
        for task in tasks:
            answers = ask(task, asked, ks)
            if answers is not None:
                found[split, task.name] = answers
    return found


def compare(
    new: Mapping[tuple[str, str], Answers], old: Mapping[tuple[str, str], Answers], judged: Judged, config: QualityConfig, seed: int
) -> dict[tuple[str, str], Interval]:
    """New minus old in every task's key metric, paired by query, drawn by SKU."""
    found = {}
    for key in new.keys() & old.keys():
        metric = key_metric(key[1], config.ks)
        difference = paired_difference(new[key], old[key], metric, judged.skus, config.resamples, seed)
        if difference is not None:
            found[key] = difference
    return found


def ablate(judged: Judged, vectors: Mapping[str, np.ndarray], config: QualityConfig, seed: int) -> dict[str, Interval]:
    """What each modality adds: same-SKU recall of the full vectors minus that of each variant, on the same queries."""
    everyone = np.ones(len(judged), bool)
    answers = {}
    for name, vector in vectors.items():
        found = ask(Task(name, vector, vector, judged.skus, True), everyone, config.ks)
        if found is not None:
            answers[name] = found
    if FULL not in answers:
        return {}
    metric = key_metric("same_sku", config.ks)
    pairs = {
        name: paired_difference(answers[FULL], other, metric, judged.skus, config.resamples, seed)
        for name, other in answers.items()
        if name != FULL
    }
    return {name: interval for name, interval in pairs.items() if interval is not None}


def probe(judged: Judged, vectors: np.ndarray, splits: Mapping[str, np.ndarray], resamples: int, seed: int) -> dict[tuple[str, str], Probe]:
    """Every label by (split, label), predicted for the queried creatives from the others (k = 20, T = 0.07)."""
    found = {}
    present = vectors.any(axis=1)
    for split, asked in splits.items():
        for name, values in judged.labels.items():
            label = codes(values)
            known, tested = present & ~asked & (label >= 0), present & asked & (label >= 0)
            if not known.any() or not tested.any():
                continue
            right = weighted_knn(vectors[known], label[known], vectors[tested]) == label[tested]
            groups = np.unique(judged.skus[tested], return_inverse=True)[1]
            interval = ratio_interval(np.bincount(groups, right), np.bincount(groups), resamples=resamples, seed=seed)
            found[split, name] = Probe(interval, float(np.bincount(label[tested]).max() / tested.sum()))
    return found
