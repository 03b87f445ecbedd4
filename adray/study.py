"""A study: named variants of one run, each over several seeds, side by side with intervals.

The runs are ordinary runs of any kind, executed as parallel Ray tasks with a process each. What they read may be made first
(a world, tables and artifacts of it), and what they leave behind may be judged by further runs. A study that was stopped goes on
with `--set resume=true`: runs that finished are read, not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

from adray.checks import Check
from adray.config import RunConfig
from adray.errors import AdrayError, ConfigError, TrainingError
from adray.run import Run
from adray.study_config import StudyConfig
from adray.study_report import write
from adray.study_runs import Outcome, usable_cpus
from adray.study_steps import Steps, dry_cells, world_cell

CONFIG = StudyConfig


def study(config: RunConfig, run: Run) -> None:
    """Simulate the worlds, make what is made of them, execute the runs and what follows them, and write every figure.

    Raises:
        TrainingError: At the end, if a run failed, with its name and error; the table of the others is written.
    """
    assert isinstance(config, StudyConfig)
    steps = Steps(config, run.folder)
    with run.stage("worlds") if config.world else nullcontext():
        made = steps.worlds()
    if config.tables:
        with run.stage("tables"):
            steps.tables(made)
    with run.stage("runs"):
        outcomes = steps.runs(made)
    followed: Mapping[tuple[str, int], Mapping[str, Outcome]] = {}
    if config.after:
        with run.stage("after"):
            followed = steps.after(made, outcomes)
    failures = steps.failures
    cells: dict[tuple[str, int], dict[str, float]] = {}
    for key, outcome in outcomes.items():
        try:
            cells[key] = _chosen_metrics(config, outcome, followed.get(key, {}))
        except AdrayError as error:
            failures.setdefault(outcome.cell.label, str(error))
    with run.stage("table"):
        write(config, run, cells, list(outcomes.values()))
    if failures:
        named = "; ".join(f"{label}: {error}" for label, error in failures.items())
        of_a_variant = len(config.variants) * (1 + len(config.after))
        total = len(config.seeds) * (of_a_variant + len(config.tables) + (config.world is not None))
        raise TrainingError(f"{len(failures)} of {total} runs failed: {named}", "mend them and go on with --set resume=true")


def _chosen_metrics(config: StudyConfig, outcome: Outcome, followed: Mapping[str, Outcome]) -> dict[str, float]:
    """What is compared of a variant's run and of the steps after it; of a step that failed nothing, which is told elsewhere."""
    if outcome.report is None:
        raise TrainingError(outcome.error)
    found, joined = {}, {}
    for name, step in config.after.items():
        for ours, theirs in step.joined().items():
            joined[ours] = name
            report = followed[name].report if name in followed else None
            if report is not None:
                found[ours] = _metric(report["metrics"], theirs, f"after.{name}.metrics")
    found |= {metric: _metric(outcome.report["metrics"], metric, "metrics") for metric in config.metrics if metric not in joined}
    return {metric: found[metric] for metric in config.compared() if metric in found}


def _metric(reported: Mapping[str, float | None], metric: str, field: str) -> float:
    if metric not in reported:
        raise ConfigError(f"field {field!r}: the run's report has no {metric!r}", f"it has: {', '.join(reported) or 'none'}")
    value = reported[metric]
    if value is None:
        raise TrainingError(f"metric {metric!r} is not finite")
    return value


def checks(config: RunConfig, verb: str) -> Iterable[Check]:
    """Validate every variant's config; where the data is there already, look into what the base run needs."""
    assert isinstance(config, StudyConfig)
    return _checks(config)


def _checks(config: StudyConfig) -> Iterator[Check]:
    folder = Path(config.runs_dir) / config.name
    names = f"{len(config.variants)} variants x {len(config.seeds)} seeds"
    try:
        jobs = [cell.job() for cell in dry_cells(config, folder)]
        for job in jobs:
            job.require(job.kind.main_verb)
        looked_into = world_cell(config.world, folder, config.seeds[0]).job() if config.world else jobs[0]
    except ConfigError as error:
        yield Check("variants", names, error)
        return
    yield Check("variants", f"{names} of kind {jobs[0].config.kind}")
    yield Check("parallel", f"{config.at_a_time()} runs at a time x {config.cpus_per_run} CPUs; this machine has {usable_cpus()}")
    yield from looked_into.room_checks(looked_into.kind.main_verb)
