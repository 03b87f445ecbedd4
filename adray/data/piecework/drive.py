"""The driver of a long job: skips what is done, hands the rest to workers, counts, and refuses too many losses."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adray.data import quarantine
from adray.data.piecework.config import WorkConfig
from adray.data.piecework.items import Item
from adray.data.piecework.parts import ItemResult, Parts, check_lost, check_unique
from adray.errors import DataError
from adray.files import write_json

CLAIM_FILE = "provenance.json"
Work = Callable[[Item], ItemResult]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        rows: Rows done, also by earlier runs.
        total: All rows; None where that is not known yet.
        new: Rows that this run did.
        seconds: Wall time of this run's work.
        stage_seconds: Time spent in each stage, summed over workers.
    """

    rows: int
    total: int | None
    new: int
    seconds: float
    stage_seconds: dict[str, float]


@dataclass(frozen=True)
class Finished:
    """What a job left behind.

    Attributes:
        kept: Rows in its table.
        lost: Rows quarantined.
        new: Rows that this run worked on; the others were done before.
        seconds: Wall time of this run's work.
        first_seconds: Until its first item was done, which includes the start of the workers.
        first_rows: Rows of that item.
        stage_seconds: Time spent in each stage, summed over workers.
        counts: What the workers counted, summed.
    """

    kept: int
    lost: int
    new: int
    seconds: float
    first_seconds: float
    first_rows: int
    stage_seconds: dict[str, float]
    counts: dict[str, int]

    def speeds(self) -> dict[str, float]:
        """Rows per second of the whole run, after its first item (when there were others), and of each stage in one worker."""
        if not self.new:
            return {}
        found = {"rows_per_s": self.new / max(self.seconds, 1e-9)}
        if self.new > self.first_rows:
            found["rows_per_s_after_start"] = (self.new - self.first_rows) / max(self.seconds - self.first_seconds, 1e-9)
        return found | {f"{stage}_rows_per_s": self.new / max(s, 1e-9) for stage, s in self.stage_seconds.items()}


def do_items(
    items: Sequence[Item],
    parts: Parts,
    run: Callable[[Sequence[Item]], Iterator[ItemResult]],
    *,
    table: str,
    key: str,
    limit: float,
    stages: Sequence[str],
    on_progress: Callable[[Progress], None] | None = None,
) -> Finished:
    """Do the items of a job that are not done yet.

    Args:
        items: All items of the source.
        parts: The job's folders.
        run: Does items; see `run_items`.
        table: The table that is read.
        key: Key column of the table that is written.
        limit: Greatest share of rows that may be lost.
        stages: Names of the stages that workers time.
        on_progress: Told after each item.

    Raises:
        DataError: If more rows are lost, there are none, or a key occurs twice.
        AdrayError: What a worker raised.
    """
    done = parts.finished(items)
    waiting = [item for item in items if item.name not in done]
    results, total = list(done.values()), sum(item.rows for item in items)
    start, new, first = time.perf_counter(), 0, (0.0, 0)
    seconds = dict.fromkeys(stages, 0.0)
    _log.info("%d of %d items are done, %d to go", len(done), len(items), len(waiting))
    for result in run(waiting) if waiting else ():
        results.append(result)
        new += result.kept + result.lost
        first = first if first[1] else (time.perf_counter() - start, new)
        seconds = {stage: spent + result.seconds.get(stage, 0.0) for stage, spent in seconds.items()}
        check_lost(results, total, table, limit, parts.quarantine)
        if on_progress is not None:
            rows = sum(r.kept + r.lost for r in results)
            on_progress(Progress(rows, total or None, new, time.perf_counter() - start, seconds))
    elapsed = time.perf_counter() - start
    check_lost(results, None, table, limit, parts.quarantine)
    if any(result.kept for result in results):
        check_unique(str(parts.output), key, table)
    quarantine.ensure_readable(parts.quarantine)
    kept, lost = (sum(getattr(result, name) for result in results) for name in ("kept", "lost"))
    names = {name for result in results for name in result.counts}
    counts = {name: sum(result.counts.get(name, 0) for result in results) for name in sorted(names)}
    return Finished(kept, lost, new, elapsed, *first, seconds, counts)


def run_items(
    how: WorkConfig, items: Sequence[Item], own: Callable[[], Work], start: Callable[[Any], Work], argument: Any
) -> Iterator[ItemResult]:
    """Do items in this process, or in a pool of Ray actors when the config names workers.

    Args:
        how: Names the workers.
        items: What is to be done.
        own: Makes this process's worker.
        start: Makes an actor's worker of `argument`.
        argument: Sent to every actor.
    """
    if how.workers == 0:
        work = own()
        for item in items:
            yield work(item)
        return
    from adray.data.piecework.pool import PoolSize, work_in_pool

    yield from work_in_pool(start, argument, items, PoolSize(how.workers, how.cpus_per_worker, how.gpus))


def claim(folder: Path, provenance: Mapping[str, Any], what: str) -> None:
    """Mark a folder as holding the rows of one provenance; refuse it when it holds another's.

    Args:
        folder: The run's folder.
        provenance: What made the rows; plain values.
        what: What to call the rows.

    Raises:
        DataError: Naming the first value that differs.
    """
    path = folder / CLAIM_FILE
    if not path.is_file():
        write_json(path, dict(provenance))
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    for name in sorted({*known, *provenance}):
        if known.get(name) != provenance.get(name):
            problem = f"{folder} holds {what} of {name} {known.get(name)!r}, this config's is {provenance.get(name)!r}"
            raise DataError(problem, "start a run of another name, or --set replace=true")
