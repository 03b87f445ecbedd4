"""Inspectors and pictures for tests: small, untrained, and one whose worker dies once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import torch

from adray.data.pictures import read_pair
from adray.data.piecework.items import Item
from adray.data.piecework.parts import ItemResult
from adray.feedback.artifact import export_inspector, load_inspector
from adray.feedback.config import MapsConfig, RFNetConfig, SingleConfig, TextConfig, TrunkConfig
from adray.feedback.inputs import as_tensor
from adray.feedback.inspection.worker import WorkerJob, start_worker
from adray.feedback.rfnet import build

_TRUNK = TrunkConfig(stem=8, widths=[8, 16], depths=[1, 1])


def write_inspector(folder: Path, seed: int = 0, *, kind: str = "rfnet", balanced_on: Path | None = None) -> Path:
    """Export an untrained inspector.

    Args:
        folder: Of the artifact.
        seed: Of its weights.
        kind: `rfnet` or `resnet`.
        balanced_on: A table of annotated pictures over which each label's mean logit is made 0, so that verdicts differ.
    """
    torch.manual_seed(seed)
    small = {"image_size": 32, "trunk": _TRUNK}
    text = TextConfig(vocabulary=64, width=16, heads=2)
    model = RFNetConfig(**small, width=16, heads=2, text=text) if kind == "rfnet" else SingleConfig(kind="resnet", **small)
    net = build(model)
    with torch.no_grad():
        net.classify.weight.mul_(100)
        export_inspector(folder, net, model, MapsConfig())
        if balanced_on is not None:
            rows = pq.read_table(balanced_on).slice(0, 32)
            pairs = [read_pair(row["image"], row["cutout"]) for row in rows.select(["image", "cutout"]).to_pylist()]
            pictures, cutouts = (torch.cat([as_tensor(pair[side]) for pair in pairs]) for side in (0, 1))
            net.classify.bias -= load_inspector(folder)(pictures, cutouts, rows["copy"].to_pylist()).mean(dim=0)
            export_inspector(folder, net, model, MapsConfig())
    return folder


def start_mortal(job: WorkerJob) -> Callable[[Item], ItemResult]:
    """As `start_worker`, but the first worker to begin its second item takes its process with it."""
    work = start_worker(job)
    died = job.parts.done.parent / "died"
    begun = []

    def inspect(item: Item) -> ItemResult:
        begun.append(item)
        if len(begun) == 2 and not died.exists():
            died.touch()
            os._exit(9)
        return work(item)

    return inspect
