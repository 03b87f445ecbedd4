"""The driver: cuts the requests into items, skips what is done, hands the rest to workers, counts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from adray.artifact import load_artifact
from adray.data import quarantine
from adray.data.piecework.items import Item, make_items
from adray.data.piecework.parts import ItemResult, check_lost
from adray.data.piecework.progress import OnProgress
from adray.data.quarantine import quarantine_rows
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import QUARANTINE
from adray.errors import DataError, ResourceError
from adray.files import write_json
from adray.generation.components import meta_components
from adray.generation.recurrent.config import GenerationRunConfig
from adray.generation.recurrent.requests import REQUEST, Requests, prepare_requests
from adray.generation.recurrent.tables import Outputs
from adray.generation.recurrent.tools import Tools, generator_identity, load_tools, side_multiple
from adray.generation.recurrent.worker import ACCEPTED, FAILED, PICTURES, STAGES, GenerateWorker, WorkerJob, start_worker

PROVENANCE_FILE = "provenance.json"
_SHAPING = ("seed", "threshold", "attempts", "per_request", "placement", "prompts", "sampling", "precision", "keep_refused")
"""Fields on which the rows depend, besides the requests and the models."""


@dataclass(frozen=True)
class Generated:
    """What a job left behind.

    Attributes:
        outputs: Where its tables are.
        requests: Requests that were used.
        repeats: Rows passed over because their product has an earlier one.
        lost: Requests quarantined.
        pictures: Pictures made.
        accepted: Pictures kept.
        failed: Pictures wanted of which every attempt was refused.
        new: Pictures that this job made; the others were made before.
        new_accepted: Of these, those that were kept.
        seconds: Wall time of this job's work.
        stage_seconds: Time of this job's work in each stage, summed over workers.
    """

    outputs: Outputs
    requests: int
    repeats: int
    lost: int
    pictures: int
    accepted: int
    failed: int
    new: int
    new_accepted: int
    seconds: float
    stage_seconds: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """Counts, and speeds of what this job did itself."""
        found: dict[str, float] = {
            "requests": self.requests,
            "repeats": self.repeats,
            "quarantined": self.lost,
            "pictures": self.pictures,
            "accepted": self.accepted,
            "failed": self.failed,
            "pictures_new": self.new,
        }
        if self.new:
            found["pictures_per_s"] = self.new / max(self.seconds, 1e-9)
            spent = {stage: self.stage_seconds[stage] for stage in STAGES if self.stage_seconds[stage] > 0}
            found |= {f"{stage}_pictures_per_s": self.new / seconds for stage, seconds in spent.items()}
        if self.new_accepted:
            found["seconds_per_accepted"] = self.seconds / self.new_accepted
        if self.accepted + self.failed:
            found["mean_attempts"] = self.pictures / (self.accepted + self.failed)
        return {f"generation/{name}": float(value) for name, value in found.items()}


def generate_pictures(
    config: GenerationRunConfig, folder: Path, on_progress: OnProgress | None = None, tools: Tools | None = None
) -> Generated:
    """Make the pictures that a config asks for; what an earlier job of the same run did is kept.

    Args:
        config: The run's config.
        folder: The run's folder.
        on_progress: Told after each work item.
        tools: Generator and inspector, when the caller has them already; only without workers.

    Raises:
        DataError: If the requests cannot be used, too many of them are lost, or the folder holds another generation's pictures.
        AdrayError: If a model cannot be loaded.
    """
    config = with_multiple(config)
    requests = prepare_requests(config.data.requests, config.data.per, folder)
    outputs = Outputs.make(folder)
    job = WorkerJob(config, requests, outputs, _claim(config, folder))
    items = make_items(requests.source, config.job.chunk_rows, config.job.chunk_rows)
    done = outputs.finished(items)
    _write_lost(outputs, requests)
    results, new = list(done.values()), list[ItemResult]()
    before = len(requests.lost)
    start = time.perf_counter()
    for result in _run(job, [item for item in items if item.name not in done], tools):
        results.append(result)
        new.append(result)
        check_lost(results, requests.rows + before, REQUEST.name, config.data.quarantine_limit, outputs.shared.quarantine)
        if on_progress is not None:
            on_progress(sum(r.kept + r.lost for r in results), requests.rows, _says(results, new, time.perf_counter() - start))
    seconds = time.perf_counter() - start
    lost_before = ItemResult("", lost=before, first=": ".join(requests.lost[0])) if before else None
    check_lost(
        [*results, *([lost_before] if lost_before else [])], None, REQUEST.name, config.data.quarantine_limit, outputs.shared.quarantine
    )
    outputs.ensure_readable()
    quarantine.ensure_readable(outputs.shared.quarantine)
    return _summed(outputs, requests, results, new, seconds)


def with_multiple(config: GenerationRunConfig) -> GenerationRunConfig:
    """The config with `placement.multiple` set where it is read: what the generator's grid asks for, unless the config says it."""
    if not config.placement.keep_loc or config.placement.multiple is not None:
        return config
    multiple = side_multiple(meta_components(config.generator, config.controlnet))
    return config.model_copy(update={"placement": config.placement.model_copy(update={"multiple": multiple})})


def _says(results: Sequence[ItemResult], new: Sequence[ItemResult], seconds: float) -> str:
    accepted, failed = (sum(r.counts[name] for r in results) for name in (ACCEPTED, FAILED))
    speed = sum(r.counts[PICTURES] for r in new) / max(seconds, 1e-9)
    return f"{accepted:,} accepted, {failed:,} failed, {speed:,.1f} pictures/s"


def _summed(outputs: Outputs, requests: Requests, results: Sequence[ItemResult], new: Sequence[ItemResult], seconds: float) -> Generated:
    counts = {name: sum(r.counts[name] for r in results) for name in (PICTURES, ACCEPTED, FAILED)}
    return Generated(
        outputs=outputs,
        requests=sum(r.kept for r in results),
        repeats=requests.repeats,
        lost=sum(r.lost for r in results) + len(requests.lost),
        pictures=counts[PICTURES],
        accepted=counts[ACCEPTED],
        failed=counts[FAILED],
        new=sum(r.counts[PICTURES] for r in new),
        new_accepted=sum(r.counts[ACCEPTED] for r in new),
        seconds=seconds,
        stage_seconds={stage: sum(r.seconds[stage] for r in new) for stage in STAGES},
    )


def _write_lost(outputs: Outputs, requests: Requests) -> None:
    """Quarantine what was lost before there were items."""
    if requests.lost:
        with RowGroupWriter(outputs.shared.quarantine / "source.parquet", QUARANTINE.required, len(requests.lost)) as writer:
            writer.write(quarantine_rows(REQUEST.name, "read", list(requests.lost)))


def _claim(config: GenerationRunConfig, folder: Path) -> datetime:
    """Mark a folder as holding one generation's pictures; refuse it when it holds another's.

    Returns:
        When the generation was begun.
    """
    path = folder / PROVENANCE_FILE
    asked = _provenance(config)
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        began = datetime.fromisoformat(known.pop("began"))
        for name, value in asked.items():
            if known.get(name) != value:
                problem = f"{folder} holds pictures made with {name} {known.get(name)!r}, now it is {value!r}"
                raise DataError(problem, "start a run of another name, or --set replace=true")
        return began
    began = datetime.now(timezone.utc).replace(microsecond=0)
    write_json(path, {**asked, "began": began.isoformat()})
    return began


def _provenance(config: GenerationRunConfig) -> dict[str, Any]:
    """What names the rows of a generation, as JSON would give it back."""
    fields = {name: value for name, value in config.model_dump(mode="json").items() if name in _SHAPING}
    models = {"generator": generator_identity(config.generator)}
    if config.controlnet is not None:
        models["controlnet"] = generator_identity(config.controlnet)
    if config.inspector is not None:
        models["inspector"] = load_artifact(config.inspector).content_hash
    return models | fields


def _run(job: WorkerJob, items: Sequence[Item], tools: Tools | None) -> Iterator[ItemResult]:
    if not items:
        return
    how = job.config.job
    if how.workers == 0:
        if how.gpus and not torch.cuda.is_available():
            raise ResourceError("field 'job.gpus' is true and this process has no GPU", "set job.gpus=false, or job.workers on a cluster")
        worker = GenerateWorker(job, load_tools(job.config) if tools is None else tools)
        for item in items:
            yield worker.run(item)
        return
    from adray.data.piecework.pool import PoolSize, work_in_pool

    yield from work_in_pool(start_worker, job, items, PoolSize(how.workers, how.cpus_per_worker, how.gpus))
