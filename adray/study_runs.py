"""Executing many runs at a time as Ray tasks, a process each, without one's failure stopping the others."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from adray.config import RunConfig
from adray.files import write_text
from adray.kinds import ERROR_FILE, KINDS, Job, Kind, make_job, perform, user_error
from adray.ray_session import use_ray
from adray.run import CONFIG_FILE, REPORTS_FOLDER, is_taken, run_folder

# A run's Ray Data tasks need CPUs of their own while the run holds its.
_SPARE_CPUS = 4


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        label: What to call it in messages.
        values: Its whole config.
        source: What to call the config's origin in errors.
        needs: Reports of the runs that it reads from; one that is newer than this run's start makes this run stale.
    """

    label: str
    values: dict[str, Any]
    source: str
    needs: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.values["runs_dir"]) / self.values["name"]

    @property
    def report_file(self) -> Path:
        """The report of its main verb, which is there once it has finished."""
        return self.folder / REPORTS_FOLDER / f"{KINDS[self.values['kind']].main_verb}.json"

    def job(self) -> Job:
        """The validated config with the kind that executes it."""
        return make_job(self.values, self.source)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its report, or the error that stopped it."""

    cell: Cell
    report: dict[str, Any] | None
    error: str = ""


def execute(cells: Sequence[Cell], cpus_per_run: int, at_a_time: int) -> list[Outcome]:
    """Execute the main verb of every cell that has not finished yet.

    Args:
        cells: The runs; each is read from its report if it finished with the same config, resumed if it was begun with it,
            and started afresh otherwise, also when a run that it reads from was made again since it was begun.
        cpus_per_run: CPUs (and threads) of each.
        at_a_time: Most runs at the same time.

    Returns:
        One outcome per cell, in their order.
    """
    console = Console(stderr=True)
    outcomes: dict[int, Outcome] = {}
    waiting: list[int] = []
    for index, cell in enumerate(cells):
        report = _finished(cell)
        if report is not None:
            outcomes[index] = Outcome(cell, report)
        else:
            waiting.append(index)
    if outcomes:
        console.print(f"{len(outcomes)} of {len(cells)} runs had finished before", highlight=False)
    if waiting:
        import ray

        use_ray(at_a_time * cpus_per_run + _SPARE_CPUS)
        # A process of its own per run: no seed, cache or memory is left over from the one before.
        task = ray.remote(num_cpus=cpus_per_run, max_calls=1, max_retries=0)(_perform)
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < at_a_time:
                index = waiting.pop(0)
                running[task.remote(_to_start(cells[index]), KINDS[cells[index].values["kind"]])] = index
            done, _ = ray.wait(list(running), num_returns=1)
            index = running.pop(done[0])
            outcomes[index] = _collect(done[0], cells[index])
            _tell(console, outcomes[index], len(outcomes), len(cells))
    return [outcomes[index] for index in range(len(cells))]


def _perform(cell: Cell, kind: Kind) -> Outcome:
    """Runs in a worker: an error is returned, so that its text stays short and other runs go on."""
    KINDS.setdefault(cell.values["kind"], kind)
    try:
        job = cell.job()
        _, report = perform(job, job.kind.main_verb)
        return Outcome(cell, report)
    except Exception as error:
        known = user_error(error)
        if known is not None:
            return Outcome(cell, None, str(known))
        # Not in the run's folder: it may not be one yet, and a later start must not take it for one.
        log = Path(cell.values["runs_dir"]) / f"{cell.values['name']}.{ERROR_FILE}"
        write_text(log, traceback.format_exc())
        return Outcome(cell, None, f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:200]} (traceback: {log})")


def _collect(reference: Any, cell: Cell) -> Outcome:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        # The process itself died, for example of too little memory.
        return Outcome(cell, None, f"its process died: {' '.join(str(error).split())[:200]}")


def _tell(console: Console, outcome: Outcome, done: int, total: int) -> None:
    if outcome.report is None:
        console.print(f"[{done}/{total}] {outcome.cell.label}: {outcome.error}", style="red", markup=False, highlight=False)
    else:
        seconds = sum(outcome.report["seconds"].values())
        console.print(f"[{done}/{total}] {outcome.cell.label}: {seconds:.1f} s", markup=False, highlight=False)


def _finished(cell: Cell) -> dict[str, Any] | None:
    # Validated even so: a config that has become wrong is told before anything runs.
    config = cell.job().config
    if not cell.report_file.is_file() or not _same_config(config) or _stale(cell):
        return None
    return json.loads(cell.report_file.read_text(encoding="utf-8"))


def _to_start(cell: Cell) -> Cell:
    config = cell.job().config
    if not is_taken(run_folder(config)):
        return cell
    goes_on = _same_config(config) and not _stale(cell)
    return replace(cell, values={**cell.values, "resume" if goes_on else "replace": True})


def _stale(cell: Cell) -> bool:
    """Whether what a run reads was made after the run was begun."""
    begun = cell.folder / CONFIG_FILE
    return begun.is_file() and any(n.is_file() and n.stat().st_mtime_ns > begun.stat().st_mtime_ns for n in cell.needs)


def _same_config(config: RunConfig) -> bool:
    path = run_folder(config) / CONFIG_FILE
    if not path.is_file():
        return False
    saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {**saved, "resume": False, "replace": False} == {**config.model_dump(mode="json"), "resume": False, "replace": False}


def usable_cpus() -> int:
    """CPUs this process may run on, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
