"""What an inspection's report shows beside its counts: figures against what the table says itself, and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adray.data.labels import LABELS
from adray.data.picture_sheet import picture_sheet
from adray.data.pictures import image_pixels
from adray.data.piecework.items import make_items, read_item
from adray.feedback.inspection.config import InspectionRunConfig
from adray.feedback.inspection.job import Inspected
from adray.feedback.inspection.rows import COMPARED
from adray.feedback.metrics import inspection_metrics

_ROWS = 256


def compared_metrics(config: InspectionRunConfig, found: Inspected) -> dict[str, float]:
    """What the verdicts are against what the table says itself; nothing where it says neither.

    Args:
        config: The run's config.
        found: What was inspected.

    Returns:
        Where pictures have a label: as `inspection_metrics`, and `feedback/pictures`, their number. Where whoever made them accepted
        some: `feedback/inspect/confirmed_share`, the share of those that this inspector accepts too, and `confirmed_of`, their number.
    """
    names = [name for name in COMPARED if name in found.source.schema.names]
    labels: list[int] = []
    scores: list[np.ndarray] = []
    confirmed: list[bool] = []
    for verdicts, rows in _side_by_side(config, found, names) if names else ():
        for row in rows:
            verdict = verdicts.get(row[found.table.key])
            if verdict is None:
                continue
            if row.get("label") in LABELS:
                labels.append(LABELS.index(row["label"]))
                scores.append(np.array([dict(verdict["probabilities"])[name] for name in LABELS], np.float32))
            if row.get("accepted"):
                confirmed.append(verdict["accepted"])
    figures: dict[str, float] = {}
    if labels:
        figures = {**inspection_metrics(np.array(labels), np.stack(scores)), "feedback/pictures": float(len(labels))}
    if confirmed:
        figures |= {"feedback/inspect/confirmed_share": float(np.mean(confirmed)), "feedback/inspect/confirmed_of": float(len(confirmed))}
    return figures


def contact_sheet(config: InspectionRunConfig, found: Inspected, path: Path) -> Path | None:
    """The first accepted pictures of the table and then as many refused ones, with what was said of them.

    Args:
        config: Names how many of each.
        found: What was inspected.
        path: The PNG to write.

    Returns:
        The file; None where nothing was to be shown.
    """
    shown: dict[bool, list[tuple[np.ndarray, str]]] = {True: [], False: []}
    for verdicts, rows in _side_by_side(config, found, ["image"]):
        for row in rows:
            verdict = verdicts.get(row[found.table.key])
            if verdict is not None and len(shown[verdict["accepted"]]) < config.contact_sheet:
                sure = max(p for _, p in verdict["probabilities"])
                caption = f"{verdict['label']} {sure:.2f}\n{verdict['image_id'][:26]}"
                shown[verdict["accepted"]].append((image_pixels(row["image"]), caption))
        if all(len(one) >= config.contact_sheet for one in shown.values()):
            break
    both = shown[True] + shown[False]
    return picture_sheet([picture for picture, _ in both], [caption for _, caption in both], path) if both else None


def _side_by_side(
    config: InspectionRunConfig, found: Inspected, columns: Sequence[str]
) -> Iterator[tuple[dict[str, dict[str, Any]], Iterator[dict[str, Any]]]]:
    """Each work item's verdicts by picture, and some columns of its rows; one item is in memory at a time."""
    how = config.job
    wanted = [found.table.key, *columns]
    table = replace(found.table, required=pa.schema([field for field in found.table.required if field.name in wanted]))
    for item in make_items(found.source, how.chunk_rows, how.batch_rows):
        file = found.verdicts / f"part-{item.name}.parquet"
        if file.is_file():
            batches = read_item(found.source, item, _ROWS, table, wanted, lambda key, reason: None)
            yield {row["image_id"]: row for row in pq.read_table(file).to_pylist()}, (row for rows in batches for row in rows.to_pylist())
