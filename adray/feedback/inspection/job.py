"""The inspection of a table: the driver behind the verb, callable on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from adray.data.labels import LABELS
from adray.data.piecework.drive import Finished, Progress, claim, do_items, run_items
from adray.data.piecework.items import make_items
from adray.data.piecework.parts import Parts
from adray.data.schema import TableSchema
from adray.data.sources import Source, open_source
from adray.errors import ResourceError
from adray.feedback.artifact import LoadedInspector, load_inspector
from adray.feedback.inputs import modalities
from adray.feedback.inspection.config import InspectionRunConfig
from adray.feedback.inspection.rows import pictures_table
from adray.feedback.inspection.worker import ACCEPTED, STAGES, InspectWorker, WorkerJob, start_worker

VERDICTS = "verdicts"
"""Folder of the table that is written, within the run's."""


@dataclass(frozen=True)
class Inspected:
    """What an inspection left behind.

    Attributes:
        source: The pictures.
        table: What was read of them.
        verdicts: Folder of the `verdicts` table.
        quarantine: Folder of the `quarantine` table.
        done: Counts and times.
    """

    source: Source
    table: TableSchema
    verdicts: Path
    quarantine: Path
    done: Finished

    def metrics(self) -> dict[str, float]:
        """Counts, shares of verdicts, and pictures per second: of the whole job, and of each stage in one worker."""
        rows = max(self.done.kept, 1)
        found = {"rows": float(self.done.kept), "quarantined": float(self.done.lost), "rows_new": float(self.done.new)}
        found["accepted_share"] = self.done.counts.get(ACCEPTED, 0) / rows
        found |= {f"share/{label}": self.done.counts.get(label, 0) / rows for label in LABELS}
        return {f"feedback/inspect/{name}": value for name, value in (found | self.done.speeds()).items()}


def open_pictures(path: str, named_by: str | None, inspector: LoadedInspector) -> tuple[Source, TableSchema]:
    """The pictures, and what an inspector reads of them.

    Raises:
        DataError: If they cannot be read or lack a column.
    """
    source = open_source(path)
    return source, pictures_table(source, named_by, with_cutouts="product" in modalities(inspector.model))


def inspect_table(
    config: InspectionRunConfig,
    folder: Path,
    inspector: LoadedInspector | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Inspected:
    """Write `<folder>/verdicts`, going on where an earlier job of the same inspector stopped.

    Args:
        config: Pictures, inspector and workers.
        folder: Where verdicts, quarantine and the record of what is done go.
        inspector: When the caller has it already.
        on_progress: Told after each work item.

    Raises:
        DataError: If the folder holds another inspector's verdicts, the pictures cannot be read, an id occurs twice, or more
            pictures are lost than `data.quarantine_limit` allows.
        ArtifactError: If the inspector cannot be loaded.
        ResourceError: If the workers never fit.
    """
    how = config.job
    if how.gpus and how.workers == 0 and not torch.cuda.is_available():
        raise ResourceError("field 'job.gpus' is true and this process has no GPU", "set job.gpus=false, or job.workers on a cluster")
    loaded = inspector if inspector is not None else load_inspector(config.artifact)
    source, table = open_pictures(config.data.pictures, config.data.id, loaded)
    claim(folder, {"inspector": loaded.content_hash, "precision": how.precision}, VERDICTS)
    job = WorkerJob(
        source=source,
        table=table,
        artifact=config.artifact,
        parts=Parts.make(folder, VERDICTS),
        batch_rows=how.batch_rows,
        prefetch=how.prefetch,
        precision=how.precision,
        device="cuda" if how.gpus else "cpu",
        threads=how.torch_threads(),
    )
    done = do_items(
        make_items(source, how.chunk_rows, how.batch_rows),
        job.parts,
        lambda items: run_items(how, items, lambda: InspectWorker(job, loaded).inspect, start_worker, job),
        table=table.name,
        key="image_id",
        limit=config.data.quarantine_limit,
        stages=STAGES,
        on_progress=on_progress,
    )
    return Inspected(source, table, job.parts.output, job.parts.quarantine, done)
