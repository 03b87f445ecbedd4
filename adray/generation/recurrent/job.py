"""The driver: cuts the requests into items, skips what is done, hands the rest to workers, counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from adray.artifact import load_artifact
from adray.data.piecework.drive import CLAIM_FILE, Finished, Progress, claim, do_items, run_items
from adray.data.piecework.items import Item, make_items
from adray.data.piecework.parts import ItemResult, check_lost
from adray.data.quarantine import quarantine_rows
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import GENERATED, QUARANTINE
from adray.errors import ResourceError
from adray.generation.components import meta_components
from adray.generation.recurrent.config import GenerationRunConfig
from adray.generation.recurrent.requests import REQUEST, Requests, prepare_requests
from adray.generation.recurrent.tables import Outputs
from adray.generation.recurrent.tools import Tools, generator_identity
from adray.generation.recurrent.worker import ACCEPTED, FAILED, PICTURES, STAGES, GenerateWorker, WorkerJob, start_worker

_SHAPING = ("seed", "threshold", "attempts", "per_request", "placement", "prompts", "sampling", "precision", "keep_refused")
"""Fields on which the rows depend, besides the requests and the models."""
_BEGAN = "began"


@dataclass(frozen=True)
class Generated:
    """What a job left behind.

    Attributes:
        outputs: Where its tables are.
        requests: What was asked for.
        done: Requests used and lost, and the pictures made, accepted and failed, also by earlier runs.
        new: Likewise, what this run made.
    """

    outputs: Outputs
    requests: Requests
    done: Finished
    new: Counter[str]

    def metrics(self) -> dict[str, float]:
        """Counts, and speeds of what this run did itself."""
        counts = {name: self.done.counts.get(name, 0) for name in (PICTURES, ACCEPTED, FAILED)}
        found: dict[str, float] = {
            "requests": self.done.kept,
            "repeats": self.requests.repeats,
            "quarantined": self.done.lost + len(self.requests.lost),
            "pictures_new": self.new[PICTURES],
            **counts,
        }
        if self.new[PICTURES]:
            found["pictures_per_s"] = self.new[PICTURES] / max(self.done.seconds, 1e-9)
            spent = {stage: seconds for stage, seconds in self.done.stage_seconds.items() if seconds > 0}
            found |= {f"{stage}_pictures_per_s": self.new[PICTURES] / seconds for stage, seconds in spent.items()}
        if self.new[ACCEPTED]:
            found["seconds_per_accepted"] = self.done.seconds / self.new[ACCEPTED]
        if counts[ACCEPTED] + counts[FAILED]:
            found["mean_attempts"] = counts[PICTURES] / (counts[ACCEPTED] + counts[FAILED])
        return {f"generation/{name}": float(value) for name, value in found.items()}


def generate_pictures(
    config: GenerationRunConfig, folder: Path, on_progress: Callable[[Progress], None] | None = None, tools: Tools | None = None
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
    how = config.job
    if how.gpus and how.workers == 0 and not torch.cuda.is_available():
        raise ResourceError("field 'job.gpus' is true and this process has no GPU", "set job.gpus=false, or job.workers on a cluster")
    began = _began(folder)
    claim(folder, {**_provenance(config), _BEGAN: began}, "pictures")
    requests = prepare_requests(config.data.requests, config.data.per, folder)
    outputs = Outputs.make(folder)
    job = WorkerJob(config, requests, outputs, datetime.fromisoformat(began))
    items = make_items(requests.source, how.chunk_rows, how.chunk_rows)
    outputs.finished(items)
    new: Counter[str] = Counter()

    def run(waiting: Sequence[Item]) -> Iterator[ItemResult]:
        for result in run_items(how, waiting, lambda: GenerateWorker(job, tools).run, start_worker, job):
            new.update(result.counts)
            yield result

    done = do_items(
        items,
        outputs.parts[GENERATED.name],
        run,
        table=REQUEST.name,
        key=GENERATED.key,
        limit=config.data.quarantine_limit,
        stages=STAGES,
        on_progress=on_progress,
    )
    _check_lost(outputs, requests, done, config.data.quarantine_limit)
    outputs.ensure_readable()
    return Generated(outputs, requests, done, new)


def with_multiple(config: GenerationRunConfig) -> GenerationRunConfig:
    """The config with `placement.multiple` set where it is read: what the generator's grid asks for, unless the config says it."""
    if not config.placement.keep_loc or config.placement.multiple is not None:
        return config
    multiple = meta_components(config.generator, config.controlnet).multiple
    return config.model_copy(update={"placement": config.placement.model_copy(update={"multiple": multiple})})


def _check_lost(outputs: Outputs, requests: Requests, done: Finished, limit: float) -> None:
    """Quarantine what was lost before there were items, and count it with the rest."""
    if not requests.lost:
        return
    with RowGroupWriter(outputs.shared.quarantine / "source.parquet", QUARANTINE.required, len(requests.lost)) as writer:
        writer.write(quarantine_rows(REQUEST.name, "read", list(requests.lost)))
    both = ItemResult("", done.kept, done.lost + len(requests.lost), ": ".join(requests.lost[0]))
    check_lost([both], None, REQUEST.name, limit, outputs.shared.quarantine)


def _began(folder: Path) -> str:
    """When the generation of a folder was begun, in ISO 8601: the `created_at` of all its creatives."""
    path = folder / CLAIM_FILE
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))[_BEGAN])
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat()


def _provenance(config: GenerationRunConfig) -> dict[str, Any]:
    """What names the rows of a generation, as JSON would give it back."""
    fields = {name: value for name, value in config.model_dump(mode="json").items() if name in _SHAPING}
    models = {"generator": generator_identity(config.generator)}
    if config.controlnet is not None:
        models["controlnet"] = generator_identity(config.controlnet)
    if config.inspector is not None:
        models["inspector"] = load_artifact(config.inspector).content_hash
    return models | fields
