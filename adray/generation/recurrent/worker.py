"""One worker: reads requests, makes and judges their pictures until they are accepted, writes what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import torch

from adray.data.images import ImageRowError
from adray.data.pictures import image_pixels
from adray.data.piecework.items import Item, read_item
from adray.data.piecework.parts import ItemResult
from adray.data.row_group_writer import RowGroupWriter
from adray.errors import DataError
from adray.generation.placement import place, stand
from adray.generation.prompts import draw
from adray.generation.recurrent.config import GenerationRunConfig
from adray.generation.recurrent.requests import REQUEST, Requests
from adray.generation.recurrent.rounds import Made, Refusals, Wanted, is_accepted, recur
from adray.generation.recurrent.tables import Outputs, creative_rows, failure_rows, generated_rows, verdict_rows
from adray.generation.recurrent.tools import Tools, load_tools

STAGES = ("read", "generate", "inspect", "write")
PICTURES, ACCEPTED, FAILED = "pictures", "accepted", "failed"
"""What an item counts besides its requests."""


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs to know.

    Attributes:
        config: The run's config; `placement.multiple` is set.
        requests: The requests.
        outputs: Where tables, losses and records go.
        created_at: When the run was begun: `created_at` of its creatives.
    """

    config: GenerationRunConfig
    requests: Requests
    outputs: Outputs
    created_at: datetime


class GenerateWorker:
    """Holds the generator and the inspector and runs requests through them.

    Args:
        job: What to do.
        tools: When the caller has them already; else they are loaded.

    Raises:
        AdrayError: If a model cannot be loaded.
    """

    def __init__(self, job: WorkerJob, tools: Tools | None = None) -> None:
        self._job = job
        self._tools = load_tools(job.config) if tools is None else tools

    def run(self, item: Item) -> ItemResult:
        """Do a work item. Its files appear whole or not at all, its record last.

        Raises:
            DataError: If its source cannot be read.
        """
        result = ItemResult(item.name, seconds=dict.fromkeys(STAGES, 0.0), counts={PICTURES: 0, ACCEPTED: 0, FAILED: 0})
        lost: list[tuple[str, str]] = []
        with self._job.outputs.writing(item) as writers:
            for requests, wanted in self._wanted(item, lost, result.seconds):
                result.kept += requests
                self._make_all(wanted, writers, result)
        self._job.outputs.shared.finish(result, item, REQUEST.name, "generate", lost)
        return result

    def _wanted(self, item: Item, lost: list[tuple[str, str]], seconds: dict[str, float]) -> Iterator[tuple[int, list[Wanted]]]:
        """Usable requests of some rows, and the pictures that they want."""
        requests, copies = self._job.requests, range(self._job.config.per_request)

        def on_bad(key: str, reason: str) -> None:
            lost.append((key, reason))

        start = time.perf_counter()
        chunk = self._job.config.job.chunk_rows
        for number, rows in enumerate(read_item(requests.source, item, chunk, REQUEST, requests.columns.read(), on_bad)):
            usable = []
            for row, values in enumerate(rows.to_pylist()):
                try:
                    usable.append(self._request(values))
                except ImageRowError as error:
                    lost.append((values[requests.columns.id] or f"item {item.name} row {number * chunk + row}", error.problem))
            seconds["read"] += time.perf_counter() - start
            yield len(usable), [replace(one, copy=copy) for one in usable for copy in copies]
            start = time.perf_counter()

    def _request(self, row: dict[str, Any]) -> Wanted:
        """The first picture that a row wants.

        Raises:
            ImageRowError: With the reason, if it cannot be used.
        """
        columns, config = self._job.requests.columns, self._job.config
        for name in dict.fromkeys((columns.id, "sku_id")):
            if row[name] is None:
                raise ImageRowError(f"{name} is null", "")
        title = (row[columns.text] or "").strip() if columns.text is not None else ""
        if not title and config.prompts.reads_titles():
            raise ImageRowError("the title is empty, and the prompt has a slot for it", "")
        try:
            pixels = image_pixels(row[columns.picture])
        except (DataError, OSError) as error:
            reason = error.problem if isinstance(error, DataError) else " ".join(str(error).split())
            raise ImageRowError(f"{columns.picture}: {reason}", "") from None
        return Wanted(row[columns.id], 0, row["sku_id"], title, self._canvases(pixels))

    def _canvases(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        placement = self._job.config.placement
        scales = [entry.image_scale or placement.image_scale for entry in self._job.config.prompts.entries]
        placed = {scale: place(pixels, placement.model_copy(update={"image_scale": scale})) for scale in set(scales)}
        return tuple(placed[scale] for scale in scales)

    def _make_all(self, wanted: Sequence[Wanted], writers: dict[str, RowGroupWriter], result: ItemResult) -> None:
        config = self._job.config
        refused: dict[str, Refusals] = {}
        for made in recur(wanted, lambda pending, number: self._attempt(pending, number, writers, result.seconds), config.most_attempts()):
            result.counts[PICTURES] += 1
            if made.accepted:
                result.counts[ACCEPTED] += 1
                refused.pop(made.wanted.id, None)
            elif made.wanted.id in refused:
                refused[made.wanted.id].add(made)
            else:
                refused[made.wanted.id] = Refusals.begin(made)
        result.counts[FAILED] += len(refused)
        start = time.perf_counter()
        failed = list(refused.values())
        writers["failures"].write(failure_rows(failed, config.most_attempts()))
        if not config.keep_refused:
            writers["generated"].write(generated_rows([one.best for one in failed]))
        result.seconds["write"] += time.perf_counter() - start

    def _attempt(
        self, pending: Sequence[Wanted], number: int, writers: dict[str, RowGroupWriter], seconds: dict[str, float]
    ) -> Iterator[Made]:
        """One picture of each, in batches of one shape."""
        entry = number % len(self._job.config.prompts.entries)

        def shape(one: Wanted) -> tuple[int, ...]:
            return one.canvases[entry].shape

        size = self._job.config.job.batch_rows
        for _, group in groupby(sorted(pending, key=shape), key=shape):
            alike = list(group)
            for first in range(0, len(alike), size):
                batch = self._batch(alike[first : first + size], number, entry, seconds)
                start = time.perf_counter()
                self._write(batch, writers)
                seconds["write"] += time.perf_counter() - start
                yield from batch

    def _batch(self, wanted: Sequence[Wanted], number: int, entry: int, seconds: dict[str, float]) -> list[Made]:
        config, tools = self._job.config, self._tools
        start = time.perf_counter()
        drawn = [draw(config.prompts, config.seed, one.id, number, one.title) for one in wanted]
        cutouts = np.stack([stand(one.canvases[entry], config.placement, d.seed) for one, d in zip(wanted, drawn, strict=True)])
        pictures = tools.make(cutouts, [d.prompt for d in drawn], [d.negative for d in drawn], [d.seed for d in drawn])
        made = time.perf_counter()
        seconds["generate"] += made - start
        found: list[np.ndarray | None] = [None] * len(wanted)
        if tools.judge is not None:
            found = list(tools.judge(pictures, cutouts, [one.title for one in wanted]))
            seconds["inspect"] += time.perf_counter() - made
        accepted = [p is None or is_accepted(p, config.threshold) for p in found]
        rows = zip(wanted, drawn, cutouts, pictures, found, accepted, strict=True)
        return [Made(one, number, d, cutout, picture, p, ok) for one, d, cutout, picture, p, ok in rows]

    def _write(self, made: Sequence[Made], writers: dict[str, RowGroupWriter]) -> None:
        accepted = [one for one in made if one.accepted]
        if self._tools.judge is not None:
            writers["verdicts"].write(verdict_rows(made, self._tools.inspector))
        writers["creatives"].write(creative_rows(accepted, self._job.created_at))
        writers["generated"].write(generated_rows(made if self._job.config.keep_refused else accepted))


def start_worker(job: WorkerJob) -> Callable[[Item], ItemResult]:
    """What a pool's actor calls first."""
    if not job.config.job.gpus:
        torch.set_num_threads(max(1, int(job.config.job.cpus_per_worker)))
    return GenerateWorker(job).run
