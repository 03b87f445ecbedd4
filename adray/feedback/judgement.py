"""Holding an exported inspector against held-out pictures, for its run's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from adray.data.labels import LABELS
from adray.data.picture_sheet import picture_sheet
from adray.data.pictures import image_pixels
from adray.data.stream import iterate
from adray.feedback.artifact import load_inspector
from adray.feedback.config import RFNetRunConfig
from adray.feedback.inputs import Collate, modalities
from adray.feedback.metrics import confusion, inspection_metrics
from adray.feedback.module import predict
from adray.feedback.plots import confusion_plot
from adray.run import Run

HEADLINES = ["feedback/f1", "feedback/ap", "feedback/precision", "feedback/recall", "feedback/accuracy", "feedback/macro_f1"]


def judge(run: Run, config: RFNetRunConfig, artifact: Path, table: str) -> None:
    """Metrics, confusion matrix and worst mistakes of an artifact on a table, into the report.

    Args:
        run: The run that reports.
        config: Names the batch size and the number of mistakes shown.
        artifact: The inspector's folder.
        table: Annotated pictures with their maps.
    """
    inspector = load_inspector(artifact)
    titles = inspector.tokenize
    collate = Collate(inspector.model, titles if "copy" in modalities(inspector.model) else None)  # type: ignore[arg-type]
    labels, probabilities = predict(inspector.net, iterate(table, config.evaluation.batch_rows, collate.columns(), collate))
    metrics = inspection_metrics(labels, probabilities)
    run.headlines += HEADLINES
    run.log(metrics)
    run.log({"feedback/pictures": len(labels)})
    table_of = confusion(labels, probabilities.argmax(axis=1))
    run.add_plot("Confusion matrix", confusion_plot(table_of, run.folder / "plots" / "confusion.png"))
    _mistakes(run, config, table, labels, probabilities)


def _mistakes(run: Run, config: RFNetRunConfig, table: str, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """The pictures whose true label was believed least, shown if it was not the most probable one."""
    believed = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(believed[wrong], kind="stable")][: config.evaluation.mistakes]
    if not len(worst):
        return
    rows = _rows(table, worst.tolist(), config.evaluation.batch_rows)
    captions = []
    for index, row in zip(worst.tolist(), rows, strict=True):
        said = LABELS[int(probabilities[index].argmax())]
        captions.append(f"{row['label']}, said {said}\n{(row['copy'] or '')[:28]}")
    sheet = picture_sheet([image_pixels(row["image"]) for row in rows], captions, run.folder / "plots" / "mistakes.png")
    run.add_plot("Worst mistakes", sheet)


def _rows(table: str, wanted: list[int], batch_rows: int) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for part in iterate(table, batch_rows, ["image", "copy", "label"], _same):
        for index in wanted:
            if start <= index < start + part.num_rows:
                found[index] = part.slice(index - start, 1).to_pylist()[0]
        start += part.num_rows
    return [found[index] for index in wanted]


def _same(rows: pa.Table) -> pa.Table:
    return rows
