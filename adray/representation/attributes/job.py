"""The driver: cuts the source, skips what is done, hands the rest to workers, counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from adray.data.piecework.drive import Progress, do_items, run_items
from adray.data.piecework.items import make_items
from adray.data.piecework.parts import Parts
from adray.data.schema import CREATIVES
from adray.data.sources import open_source
from adray.data.storage import exists, join
from adray.errors import DataError
from adray.files import write_json
from adray.representation.attributes.config import AttributesRunConfig
from adray.representation.attributes.extractors import build_extractors, provenance_of, stages
from adray.representation.attributes.products import NO_TITLES, read_products
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

    def told(at: Progress) -> None:
        if on_progress is not None:
            speeds = {stage: at.new / spent for stage, spent in at.stage_seconds.items() if spent > 0}
            on_progress(at.rows, at.total, {"all": at.new / max(at.seconds, 1e-9), **speeds})

    done = do_items(
        make_items(job.source, config.job.chunk_rows, config.job.batch_rows),
        job.parts,
        lambda items: run_items(config.job, items, lambda: ExtractWorker(job, titles, extractors).run, start_worker, (job, titles)),
        table=CREATIVES.name,
        key="creative_id",
        limit=config.data.quarantine_limit,
        stages=stages(config),
        on_progress=told,
    )
    return Extracted(
        job.parts.output,
        job.parts.quarantine,
        creatives,
        provenance,
        done.kept,
        done.lost,
        done.counts[REFUSED],
        done.new,
        done.seconds,
        done.stage_seconds,
    )


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
