"""One worker: reads a work item, runs the extractors over it, writes its rows and its losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adray.data.piecework.items import Item, read_item
from adray.data.piecework.parts import ItemResult, Parts
from adray.data.schema import CREATIVES
from adray.data.sources import Source
from adray.errors import AdrayError
from adray.representation.attributes.config import AttributesRunConfig
from adray.representation.attributes.extractor import Extractor
from adray.representation.attributes.extractor import Item as Creative
from adray.representation.attributes.extractors import build_extractors, run_extractors, stages
from adray.representation.attributes.products import Titles
from adray.representation.attributes.table import SCHEMA, Provenance, attributes_table
from adray.representation.attributes.values import Attributes
from adray.representation.reading import COLUMNS, creatives_from_arrow

SHORTER_SIDE = 736
"""Pixels: larger pictures are read at reduced scale as long as their shorter side stays this large, which bounds memory."""
_ROW_GROUP_ROWS = 2048
REFUSED = "refused"
"""The count of answers of a language model that stayed invalid."""


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs to know.

    Attributes:
        config: The run's config.
        source: The creatives.
        brands: The catalogue's brands.
        provenance: Of the rows to be made.
        parts: Where rows and losses go.
    """

    config: AttributesRunConfig
    source: Source
    brands: tuple[str, ...]
    provenance: Provenance
    parts: Parts


Batch = tuple[list[Creative], list[str]]
"""Creatives and their SKUs."""


class ExtractWorker:
    """Holds the extractors and runs them over work items.

    Args:
        job: What to do.
        titles: Titles by SKU.
        extractors: When the caller has them already; else they are built.

    Raises:
        AdrayError: If a model, gallery or artifact is missing.
    """

    def __init__(self, job: WorkerJob, titles: Titles, extractors: Sequence[Extractor] | None = None) -> None:
        self._job, self._titles = job, titles
        device = "cuda" if job.config.job.gpus else "cpu"
        self._extractors = build_extractors(job.config, job.brands, device) if extractors is None else extractors

    def run(self, item: Item) -> ItemResult:
        """Extract a work item. Its files appear whole or not at all, its entry in `done` last.

        Raises:
            DataError: If its source cannot be read.
        """
        job = self._job
        result = ItemResult(item.name, seconds=dict.fromkeys(stages(job.config), 0.0))
        lost: list[tuple[str, str]] = []
        refused = 0
        with job.parts.writing(item, SCHEMA, _ROW_GROUP_ROWS) as writer:
            for creatives, skus in self._batches(item, lost, result.seconds):
                found, kept = self._found(creatives, lost, result.seconds)
                refused += sum(one.raw is not None for one in found)
                start = time.perf_counter()
                writer.write(attributes_table([creatives[i] for i in kept], [skus[i] for i in kept], found, job.provenance))
                result.seconds["write"] += time.perf_counter() - start
        result.kept, result.counts = writer.written, {REFUSED: refused}
        job.parts.finish(result, item, CREATIVES.name, "extract", lost)
        return result

    def _batches(self, item: Item, lost: list[tuple[str, str]], seconds: dict[str, float]) -> Iterator[Batch]:

        def on_bad(key: str, reason: str) -> None:
            lost.append((key, reason))

        start = time.perf_counter()
        for rows in read_item(self._job.source, item, self._job.config.job.batch_rows, CREATIVES, COLUMNS, on_bad):
            seconds["read"] += time.perf_counter() - start
            start = time.perf_counter()
            creatives, bad = creatives_from_arrow(rows, at_least=SHORTER_SIDE)
            keys = rows.column("creative_id")
            lost += [(keys[row].as_py() or f"item {item.name} row {row}", f"decode: {reason}") for row, reason in bad]
            titles = self._titles.of(creatives.sku_ids)
            columns = zip(creatives.creative_ids, titles, creatives.copies, creatives.pictures, strict=True)
            batch = [Creative(*values) for values in columns]
            seconds["decode"] += time.perf_counter() - start
            if batch:
                yield batch, list(creatives.sku_ids)
            start = time.perf_counter()

    def _found(
        self, creatives: Sequence[Creative], lost: list[tuple[str, str]], seconds: dict[str, float]
    ) -> tuple[list[Attributes], list[int]]:
        """(attributes, their rows): a row that an extractor cannot stand costs itself alone, never its batch."""
        try:
            return run_extractors(self._extractors, creatives, seconds), list(range(len(creatives)))
        except (AdrayError, MemoryError):
            raise
        except Exception as error:  # a third party's model met something that its author did not think of
            if len(creatives) == 1:
                lost.append((creatives[0].creative_id, f"extract: {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
                return [], []
        alone = [self._found(creatives[i : i + 1], lost, seconds)[0] for i in range(len(creatives))]
        return [one for found in alone for one in found], [i for i, found in enumerate(alone) if found]


def start_worker(argument: tuple[WorkerJob, Titles]) -> Callable[[Item], ItemResult]:
    """What a pool's actor calls first."""
    return ExtractWorker(*argument).run
