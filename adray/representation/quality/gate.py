"""The verdict: every condition with its figures, and pass only when all hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adray.bootstrap import Interval
from adray.representation.quality.config import QualityConfig
from adray.representation.quality.measure import key_metric

COLLAPSED = -0.1
"""Uniformity above this means that all vectors are nearly one."""


@dataclass(frozen=True)
class Finding:
    """One condition of the gate.

    Attributes:
        name: What was asked for.
        passed: Whether it holds.
        detail: The figures.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Evidence:
    """What the verdict is made of.

    Attributes:
        primary: The primary task's key metric in the primary split; None when it could not be measured.
        primary_chance: Its chance level.
        differences: New minus previous by (split, task); None without a previous version.
        ablation: Full minus variant, by variant.
        uniformity: Of the full vectors.
        ann_recall: Of the published index; None without one.
    """

    primary: Interval | None
    primary_chance: float
    differences: Mapping[tuple[str, str], Interval] | None
    ablation: Mapping[str, Interval]
    uniformity: float
    ann_recall: float | None


def verdict(evidence: Evidence, config: QualityConfig) -> list[Finding]:
    """Judge. The gate passes when every finding does.

    With a previous version: no task may drop by more than its interval, and the primary task must improve by more than its
    own. Without one: the primary task must beat chance by more than its interval. Either way each modality must add
    something where both are there, vectors must not have collapsed, and an index must find what exact search finds.
    """
    found = [_primary(evidence, config)]
    for (split, task), change in sorted((evidence.differences or {}).items()):
        name = f"{task} ({split}) does not drop"
        found.append(Finding(name, not change.high < 0, f"{key_metric(task, config.ks)} changes by {change}"))
    words = {
        "image_only": "copy adds to the picture",
        "copy_only": "the picture adds to the copy",
        "image_shuffled": "wrong pictures hurt",
    }
    for name, gain in evidence.ablation.items():
        found.append(Finding(words[name], gain.low > 0, f"full minus {name}: {gain} in {key_metric('same_sku', config.ks)}"))
    found.append(Finding("vectors are spread", evidence.uniformity < COLLAPSED, f"uniformity {evidence.uniformity:.3f}, 0 is one point"))
    if evidence.ann_recall is not None:
        detail = f"ANN recall {evidence.ann_recall:.4f}, at least {config.least_ann_recall:g} asked for"
        found.append(Finding("the index finds what exact search finds", evidence.ann_recall >= config.least_ann_recall, detail))
    return found


def _primary(evidence: Evidence, config: QualityConfig) -> Finding:
    task, split = config.primary, config.primary_split
    metric = key_metric(task, config.ks)
    if evidence.primary is None:
        return Finding(f"{task} ({split}) is measured", False, "no query of it has anything right to find")
    if evidence.differences is None:
        name = f"{task} ({split}) beats chance"
        passed = evidence.primary.low > evidence.primary_chance
        return Finding(name, passed, f"{metric} {evidence.primary}, chance {evidence.primary_chance:.4f}")
    change = evidence.differences.get((split, task))
    name = f"{task} ({split}) improves"
    if change is None:
        return Finding(name, False, "the previous version has no vectors for it")
    return Finding(name, change.low > 0, f"{metric} changes by {change}")
