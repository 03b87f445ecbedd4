"""One worker: reads a work item, runs the inspector over it, writes its verdicts and its losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adray.data.labels import AVAILABLE, LABELS
from adray.data.piecework.items import Item, read_item
from adray.data.piecework.parts import ItemResult, Parts
from adray.data.prefetch import prefetched
from adray.data.schema import TableSchema
from adray.data.sources import Source
from adray.errors import DataError
from adray.feedback.artifact import LoadedInspector, load_inspector
from adray.feedback.inspection.rows import COMPARED, Decoded, decode_row, verdict_rows, verdict_schema

STAGES = ("read", "decode", "forward", "write")
ACCEPTED = "accepted"
_ROW_GROUP_ROWS = 8192
_PIXELS = 32 * 512 * 512
"""Most pixels of one forward pass, and of what is decoded for it: larger pictures are judged fewer at a time."""


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs to know.

    Attributes:
        source: The pictures.
        table: What is read of them.
        artifact: Folder of the inspector.
        parts: Where verdicts and losses go.
        batch_rows: Pictures per forward pass.
        prefetch: Batches decoded ahead by a thread.
        precision: `fp32` or `bf16`.
        device: Torch device.
        threads: Torch threads; 0 leaves torch's own choice.
    """

    source: Source
    table: TableSchema
    artifact: str
    parts: Parts
    batch_rows: int
    prefetch: int
    precision: str
    device: str
    threads: int

    def columns(self) -> list[str]:
        """Columns that are read, of those that the source has."""
        declared = [*self.table.required.names, *self.table.optional.names]
        return [name for name in declared if name in self.source.schema.names and name not in COMPARED]


@dataclass(frozen=True)
class _Batch:
    """Decoded rows and the columns that they come from."""

    columns: dict[str, list[Any]]
    decoded: list[Decoded]

    def of_one_size(self) -> list[list[int]]:
        """Places in `decoded` of the pictures of each size."""
        found: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(self.decoded):
            found.setdefault(one.picture.shape[:2], []).append(place)
        return list(found.values())


class InspectWorker:
    """Holds the inspector and runs it over work items.

    Args:
        job: What to do.
        inspector: The inspector when the caller has it already; else it is loaded.

    Raises:
        ArtifactError: If the inspector cannot be loaded.
    """

    def __init__(self, job: WorkerJob, inspector: LoadedInspector | None = None) -> None:
        if job.threads:
            torch.set_num_threads(job.threads)
        self._job = job
        self._inspector = (inspector if inspector is not None else load_inspector(job.artifact)).to(job.device)

    def inspect(self, item: Item) -> ItemResult:
        """Inspect a work item. Its files appear whole or not at all, its entry in `done` last.

        Raises:
            DataError: If its source cannot be read.
        """
        job, result = self._job, ItemResult(item.name, seconds=dict.fromkeys(STAGES, 0.0))
        lost: list[tuple[str, str]] = []
        counts: dict[str, int] = {}
        key = job.table.key
        with job.parts.writing(item, verdict_schema(job.columns()), _ROW_GROUP_ROWS) as writer:
            for batch in prefetched(self._batches(item, lost, result.seconds), job.prefetch):
                start = time.perf_counter()
                probabilities = self._probabilities(batch)
                result.seconds["forward"] += time.perf_counter() - start
                start = time.perf_counter()
                usable = np.isfinite(probabilities).all(axis=1)
                names = batch.columns[key]
                rows_of = [one.row for one in batch.decoded]
                lost += [(names[row], "inspector: no finite probability") for row, good in zip(rows_of, usable, strict=True) if not good]
                kept = [row for row, good in zip(rows_of, usable, strict=True) if good]
                rows = verdict_rows(batch.columns, key, kept, probabilities[usable], self._inspector.content_hash)
                writer.write(rows)
                for label in rows.column("label").to_pylist():
                    counts[label] = counts.get(label, 0) + 1
                result.seconds["write"] += time.perf_counter() - start
        result.kept, result.counts = writer.written, {**counts, ACCEPTED: counts.get(AVAILABLE, 0)}
        job.parts.finish(result, item, job.table.name, "inspect", lost)
        return result

    def _batches(self, item: Item, lost: list[tuple[str, str]], seconds: dict[str, float]) -> Iterator[_Batch]:
        job, key = self._job, self._job.table.key

        def on_bad(name: str, reason: str) -> None:
            lost.append((name, reason))

        start = time.perf_counter()
        for rows in read_item(job.source, item, job.batch_rows, job.table, job.columns(), on_bad):
            columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
            seconds["read"] += time.perf_counter() - start
            start = time.perf_counter()
            waiting: list[Decoded] = []
            pixels = 0
            for row in range(rows.num_rows):
                try:
                    one = decode_row(row, {name: values[row] for name, values in columns.items()}, key)
                except (DataError, OSError) as error:
                    reason = error.problem if isinstance(error, DataError) else str(error)
                    on_bad(columns[key][row] or f"item {item.name} row {row}", reason)
                    continue
                size = one.picture.shape[0] * one.picture.shape[1]
                if waiting and pixels + size > _PIXELS:
                    seconds["decode"] += time.perf_counter() - start
                    yield _Batch(columns, waiting)
                    start, waiting, pixels = time.perf_counter(), [], 0
                waiting.append(one)
                pixels += size
            seconds["decode"] += time.perf_counter() - start
            if waiting:
                yield _Batch(columns, waiting)
            start = time.perf_counter()

    def _probabilities(self, batch: _Batch) -> np.ndarray:
        """float32 `[n, 5]` of the batch's decoded pictures; pictures of one size are judged together."""
        titles = batch.columns.get("copy")
        found = np.zeros((len(batch.decoded), len(LABELS)), np.float32)
        device = torch.device(self._job.device)
        for places in batch.of_one_size():
            same = [batch.decoded[place] for place in places]
            pictures = _stacked([one.picture for one in same]).to(device)
            cutouts = _stacked([one.cutout for one in same if one.cutout is not None] or [np.zeros((1, 1, 4), np.uint8)]).to(device)
            named = [titles[one.row] or "" if titles is not None else "" for one in same]
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._job.precision == "bf16"):
                found[places] = self._inspector.probabilities(pictures, cutouts, named).float().cpu().numpy()
        return found


def _stacked(pictures: Sequence[np.ndarray]) -> Tensor:
    """uint8 `[height, width, c]` of one size to float `[n, c, height, width]` in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255.0


def start_worker(job: WorkerJob) -> Callable[[Item], ItemResult]:
    """What a pool's actor calls first."""
    return InspectWorker(job).inspect
