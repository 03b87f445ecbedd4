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
from adray.feedback.tables import AnnotationTables
from adray.run import Run

HEADLINES = ["feedback/f1", "feedback/ap", "feedback/precision", "feedback/recall", "feedback/accuracy", "feedback/macro_f1"]


def judge(run: Run, config: RFNetRunConfig, artifact: Path, tables: AnnotationTables) -> None:
    """Metrics, confusion matrix and worst mistakes of an artifact, into the report: of the main source, then of each further one.

    Args:
        run: The run that reports.
        config: Names the batch size and the number of mistakes shown.
        artifact: The inspector's folder.
        tables: Held-out annotated pictures with their maps.
    """
    inspector = load_inspector(artifact)
    titles = inspector.tokenize
    collate = Collate(inspector.model, titles if "copy" in modalities(inspector.model) else None)  # type: ignore[arg-type]
    run.headlines += HEADLINES
    for name, table in {"": tables.holdout, **tables.more}.items():
        labels, probabilities = predict(inspector.net, iterate(table, config.evaluation.batch_rows, collate.columns(), collate))
        metrics = {**inspection_metrics(labels, probabilities), "feedback/pictures": float(len(labels))}
        if name:
            metrics = {key.replace("feedback/", f"feedback/{name}/", 1): value for key, value in metrics.items()}
            run.headlines += [f"feedback/{name}/f1", f"feedback/{name}/binary_accuracy"]
        run.log(metrics)
        suffix, of = (f"-{name}", f" of {name}") if name else ("", "")
        counts = confusion(labels, probabilities.argmax(axis=1))
        run.add_plot(f"Confusion matrix{of}", confusion_plot(counts, run.folder / "plots" / f"confusion{suffix}.png"))
        sheet = _mistakes(run.folder / "plots" / f"mistakes{suffix}.png", config, table, labels, probabilities)
        if sheet is not None:
            run.add_plot(f"Worst mistakes{of}", sheet)


def _mistakes(path: Path, config: RFNetRunConfig, table: str, labels: np.ndarray, probabilities: np.ndarray) -> Path | None:
    """The pictures whose true label was believed least, shown if it was not the most probable one; None where all are right."""
    believed = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(believed[wrong], kind="stable")][: config.evaluation.mistakes]
    if not len(worst):
        return None
    rows = _rows(table, worst.tolist(), config.evaluation.batch_rows)
    captions = []
    for index, row in zip(worst.tolist(), rows, strict=True):
        said = LABELS[int(probabilities[index].argmax())]
        captions.append(f"{row['label']}\nsaid {said}\n{(row['copy'] or '')[:26]}")
    return picture_sheet([image_pixels(row["image"]) for row in rows], captions, path)


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
