"""The driver: cuts the source, skips what is done, hands the rest to workers, counts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from adray.data import quarantine
from adray.data.piecework.items import Item, make_items
from adray.data.piecework.parts import ItemResult, Parts, check_lost, check_unique
from adray.data.schema import CREATIVES
from adray.data.sources import open_source
from adray.data.storage import exists, join
from adray.errors import DataError
from adray.files import write_json
from adray.representation.attributes.config import AttributesRunConfig
from adray.representation.attributes.extractor import Extractor
from adray.representation.attributes.extractors import build_extractors, provenance_of, stages
from adray.representation.attributes.products import NO_TITLES, Titles, read_products
from adray.representation.attributes.records import is_records, write_tables
from adray.representation.attributes.table import Provenance
from adray.representation.attributes.worker import REFUSED, ExtractWorker, WorkerJob, start_worker

PROVENANCE_FILE = "provenance.json"
_SOURCE = "source"


@dataclass(frozen=True)
class Extracted:
    """What a job left behind.

    Attributes:
        table: Folder of the `attributes` table.
        quarantine: Folder of the `quarantine` table.
        creatives: The table that was read.
        provenance: Of every row.
        kept: Rows in the table.
        lost: Creatives quarantined.
        refused: Creatives of which a language model gave no valid answer.
        new: Creatives that this job worked on; the others were done before.
        seconds: Wall time of this job's work.
        stage_seconds: Time spent in each stage, summed over workers.
    """

    table: Path
    quarantine: Path
    creatives: str
    provenance: Provenance
    kept: int
    lost: int
    refused: int
    new: int
    seconds: float
    stage_seconds: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """Counts, and creatives per second: of the whole job, and of each stage in one worker."""
        found = {"rows": self.kept, "quarantined": self.lost, "refused_answers": self.refused, "rows_new": self.new}
        speeds: dict[str, float] = {}
        if self.new:
            speeds["rows_per_s"] = self.new / max(self.seconds, 1e-9)
            speeds |= {f"{stage}_rows_per_s": self.new / max(s, 1e-9) for stage, s in self.stage_seconds.items()}
        return {f"representation/extract/{name}": float(value) for name, value in (found | speeds).items()}


OnProgress = Callable[[int, int | None, dict[str, float]], None]
"""Told creatives done, all creatives (None where not known) and speeds."""


def extract_table(config: AttributesRunConfig, folder: Path, on_progress: OnProgress | None = None) -> Extracted:
    """Make the `attributes` table of the creatives; what a run of the same extractors did before is kept.

    Args:
        config: The run's config.
        folder: The run's folder.
        on_progress: Told after each work item.

    Raises:
        DataError: If the source cannot be read or has an id twice, too many creatives are unusable, or the folder holds other
            extractors' rows.
        AdrayError: If a model, gallery or artifact is missing.
    """
    creatives, products = source_tables(config, folder)
    titles, brands = (NO_TITLES, []) if products is None else read_products(products)
    extractors = build_extractors(config, brands, "cuda" if config.job.gpus and config.job.workers == 0 else "cpu")
    provenance = provenance_of(extractors)
    _claim(folder, provenance)
    job = WorkerJob(config, open_source(creatives), tuple(brands), provenance, Parts.make(folder, "attributes"))
    items = make_items(job.source, config.job.chunk_rows, config.job.batch_rows)
    done = job.parts.finished(items)
    waiting = [item for item in items if item.name not in done]
    total = sum(item.rows for item in items) or None
    results, new = list(done.values()), 0
    start, seconds = time.perf_counter(), dict.fromkeys(stages(config), 0.0)
    for result in _run(job, titles, waiting, extractors):
        results.append(result)
        new += result.kept + result.lost
        seconds = {stage: spent + result.seconds[stage] for stage, spent in seconds.items()}
        check_lost(results, total or 0, CREATIVES.name, config.data.quarantine_limit, job.parts.quarantine)
        if on_progress is not None:
            speeds = {stage: new / spent for stage, spent in seconds.items() if spent > 0}
            on_progress(sum(r.kept + r.lost for r in results), total, {"all": new / (time.perf_counter() - start), **speeds})
    elapsed = time.perf_counter() - start
    check_lost(results, None, CREATIVES.name, config.data.quarantine_limit, job.parts.quarantine)
    if any(result.kept for result in results):
        check_unique(str(job.parts.output), "creative_id", CREATIVES.name)
    quarantine.ensure_readable(job.parts.quarantine)
    kept, lost, refused = (sum(column) for column in zip(*((r.kept, r.lost, r.counts[REFUSED]) for r in results), strict=True))
    return Extracted(job.parts.output, job.parts.quarantine, creatives, provenance, kept, lost, refused, new, elapsed, seconds)


def source_tables(config: AttributesRunConfig, folder: Path) -> tuple[str, str | None]:
    """Paths of the creatives and of the products; records are made into tables in the run's folder first.

    Raises:
        AdrayError: If the records cannot be read.
    """
    data = config.data
    if is_records(data.creatives):
        creatives, products = write_tables(data.creatives, data.columns, data.picture, folder / _SOURCE)
        return str(creatives), data.products or str(products)
    if data.products is not None or "/" not in data.creatives:
        return data.creatives, data.products
    beside = data.creatives.rstrip("/").rpartition("/")[0]
    return data.creatives, next((path for name in ("products", "products.parquet") if exists(path := join(beside, name))), None)


def _claim(folder: Path, provenance: Provenance) -> None:
    """Mark a folder as holding the rows of one set of extractors; refuse it when it holds another's."""
    path = folder / PROVENANCE_FILE
    if path.is_file():
        known = Provenance(**json.loads(path.read_text(encoding="utf-8")))
        if known != provenance:
            problem = f"{folder} holds attributes of extractor {known.extractor}, this config's is {provenance.extractor}"
            raise DataError(problem, "start a run of another name, or --set replace=true")
        return
    write_json(path, asdict(provenance))


def _run(job: WorkerJob, titles: Titles, items: Sequence[Item], extractors: Sequence[Extractor]) -> Iterator[ItemResult]:
    if not items:
        return
    if job.config.job.workers == 0:
        worker = ExtractWorker(job, titles, extractors)
        for item in items:
            yield worker.run(item)
        return
    from adray.data.piecework.pool import PoolSize, work_in_pool

    how = job.config.job
    yield from work_in_pool(start_worker, (job, titles), items, PoolSize(how.workers, how.cpus_per_worker, how.gpus))
