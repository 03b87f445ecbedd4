"""A study: named variants of one run, each over several seeds, side by side with intervals.

The runs are ordinary runs of any kind, executed as parallel Ray tasks with a process each. A study that was stopped goes on
with `--set resume=true`: runs that finished are read, not repeated.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from adray.checks import Check
from adray.config import Config, PathStr, RunConfig, apply_overrides, read_yaml
from adray.errors import AdrayError, ConfigError, TrainingError
from adray.kinds import Job
from adray.run import Run
from adray.study_runs import Cell, Outcome, execute, usable_cpus
from adray.study_table import Row, cells_frame, compare, draw, gain_over_best, to_frame

RUNS_FOLDER = "runs"
WORLDS_FOLDER = "worlds"
TABLES_FOLDER = "tables"


class StudyWorld(Config):
    """A world that is simulated once per seed and given to that seed's runs."""

    config: PathStr | dict[str, Any]
    """The world's config: a file, or its content."""
    field: str = "data.path"
    """The field of the run that receives the folder of the world's tables."""


class StudyTable(Config):
    """A table that is made of each seed's world and given to that seed's runs, e.g. the vectors of its creatives."""

    config: PathStr | dict[str, Any]
    """The config of the run that makes it: a file, or its content. The first table that this run reports is the one."""
    reads: dict[str, str] = Field(min_length=1)
    """Field of that config -> table in the world's folder, e.g. `{data.creatives: creatives.parquet}`."""
    field: str
    """The field of the runs that receives the table's path."""


class StudyGain(Config):
    """A figure of the study itself: how much a variant gains over the best of some others."""

    metric: str
    """One of the study's metrics."""
    variant: str
    """The variant that gains."""
    over: list[str] = Field(min_length=1)
    """The others; in each seed the best of them counts."""


class StudyConfig(RunConfig):
    """A base run, its variants and its seeds."""

    kind: Literal["study"]
    run: PathStr | dict[str, Any]
    """The config that all runs share: a file, or its content."""
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name -> dotted fields that this variant sets, e.g. `{objective.name: pointwise}`; `{}` is the base run itself."""
    seeds: list[int] = Field(min_length=1)
    """Each variant is run with each seed."""
    world: StudyWorld | None = None
    """Simulate a world per seed first; None when the base run names its own data."""
    tables: dict[str, StudyTable] = {}
    """Name -> what else is made of each world before the runs."""
    metrics: list[str] = Field(min_length=1)
    """Metrics of the runs' reports to compare; the first is the study's headline."""
    lower_is_better: list[str] = []
    """Those of `metrics` of which the smaller value wins."""
    reference: str | None = None
    """The variant that the others are held against, seed by seed."""
    gains: dict[str, StudyGain] = {}
    """Name -> gain; reported under that name, with `_lower` and `_upper`, the ends of its interval over seeds."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Probability of the intervals."""
    cpus_per_run: int = Field(default=1, ge=1)
    """CPUs, and so threads, of one run."""
    parallel: int | None = Field(default=None, ge=1)
    """Runs at a time; None fills this machine's CPUs."""

    @model_validator(mode="after")
    def _consistent(self) -> StudyConfig:
        if self.reference is not None and self.reference not in self.variants:
            raise ValueError(f"reference is {self.reference!r}; it must be one of the variants: {', '.join(self.variants)}")
        for name, gain in self.gains.items():
            if strangers := [v for v in (gain.variant, *gain.over) if v not in self.variants]:
                raise ValueError(f"gains.{name} names {strangers[0]!r}; it must be one of the variants: {', '.join(self.variants)}")
            if gain.metric not in self.metrics:
                raise ValueError(f"gains.{name}.metric is {gain.metric!r}; it must be one of the metrics: {', '.join(self.metrics)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; each seed must be named once")
        if self.tables and self.world is None:
            raise ValueError(f"tables.{next(iter(self.tables))} is made of a world; set world")
        strangers = sorted(set(self.lower_is_better) - set(self.metrics))
        if strangers:
            raise ValueError(f"lower_is_better names {strangers[0]!r}; it must be one of the metrics: {', '.join(self.metrics)}")
        return self

    def at_a_time(self) -> int:
        """Runs that are executed at the same time."""
        return self.parallel or max(1, usable_cpus() // self.cpus_per_run)


CONFIG = StudyConfig


def study(config: RunConfig, run: Run) -> None:
    """Simulate the worlds, make tables of them, execute the runs, and write the table, its plots and every single value.

    Raises:
        TrainingError: At the end, if a run failed, with its name and error; the table of the others is written.
    """
    assert isinstance(config, StudyConfig)
    failures: dict[str, str] = {}
    given = _prepare(config, run, failures)
    with run.stage("runs"):
        keys = [(v, s) for s in given for v in config.variants]
        outcomes = execute([_run_cell(config, run.folder, v, s, given[s]) for v, s in keys], config.cpus_per_run, config.at_a_time())
    cells: dict[tuple[str, int], dict[str, float]] = {}
    for key, outcome in zip(keys, outcomes, strict=True):
        try:
            cells[key] = _chosen_metrics(config, outcome)
        except AdrayError as error:
            failures[outcome.cell.label] = str(error)
    with run.stage("table"):
        _write(config, run, cells, outcomes)
    if failures:
        named = "; ".join(f"{label}: {error}" for label, error in failures.items())
        total = len(config.seeds) * (len(config.variants) + len(config.tables) + (config.world is not None))
        raise TrainingError(f"{len(failures)} of {total} runs failed: {named}", "mend them and go on with --set resume=true")


def _prepare(config: StudyConfig, run: Run, failures: dict[str, str]) -> dict[int, dict[str, str]]:
    """Seed -> what its runs receive: field -> the world's folder, or a table made of it. Seeds that failed are left out."""
    if config.world is None:
        return {seed: {} for seed in config.seeds}
    given: dict[int, dict[str, str]] = {}
    with run.stage("worlds"):
        worlds = [_world_cell(config.world, run.folder, seed) for seed in config.seeds]
        for seed, outcome in zip(config.seeds, execute(worlds, config.cpus_per_run, config.at_a_time()), strict=True):
            if outcome.report is None:
                failures[outcome.cell.label] = outcome.error
            else:
                given[seed] = {config.world.field: os.path.commonpath(outcome.report["tables"])}
    if config.tables:
        with run.stage("tables"):
            keys = [(name, seed) for seed in given for name in config.tables]
            cells = [_table_cell(name, config.tables[name], run.folder, seed, Path(given[seed][config.world.field])) for name, seed in keys]
            for (name, seed), outcome in zip(keys, execute(cells, config.cpus_per_run, config.at_a_time()), strict=True):
                if outcome.report is None or not outcome.report["tables"]:
                    failures[outcome.cell.label] = outcome.error or "its report names no table"
                    given.pop(seed, None)
                elif seed in given:
                    given[seed][config.tables[name].field] = outcome.report["tables"][0]
    return given


def checks(config: RunConfig, verb: str) -> Iterable[Check]:
    """Validate every variant's config; where the data is there already, look into what the base run needs."""
    assert isinstance(config, StudyConfig)
    return _checks(config)


def _checks(config: StudyConfig) -> Iterator[Check]:
    folder = Path(config.runs_dir) / config.name
    names = f"{len(config.variants)} variants x {len(config.seeds)} seeds"
    seed = config.seeds[0]
    try:
        world = _world_cell(config.world, folder, seed) if config.world else None
        fields = [config.world.field, *(table.field for table in config.tables.values())] if config.world else []
        jobs = [_run_cell(config, folder, v, seed, {field: str(folder) for field in fields}).job() for v in config.variants]
        tables = [_table_cell(name, table, folder, seed, folder) for name, table in config.tables.items()]
        for job in [*jobs, *(cell.job() for cell in ([world] if world else []) + tables)]:
            job.require(job.kind.main_verb)
    except ConfigError as error:
        yield Check("variants", names, error)
        return
    yield Check("variants", f"{names} of kind {jobs[0].config.kind}")
    at_a_time = config.at_a_time()
    yield Check("parallel", f"{at_a_time} runs at a time x {config.cpus_per_run} CPUs; this machine has {usable_cpus()}")
    looked_into: Job = world.job() if world else jobs[0]
    yield from looked_into.room_checks(looked_into.kind.main_verb)


def _world_cell(world: StudyWorld, folder: Path, seed: int) -> Cell:
    values = _place(_values(world.config), folder / WORLDS_FOLDER, f"seed{seed}", seed)
    return Cell(f"world of seed {seed}", values, str(world.config))


def _table_cell(name: str, table: StudyTable, folder: Path, seed: int, world: Path) -> Cell:
    settings = {field: str(world / path) for field, path in table.reads.items()}
    values = _place(_set(_values(table.config), settings), folder / TABLES_FOLDER, f"{name}-seed{seed}", seed)
    return Cell(f"{name} of seed {seed}", values, f"table {name!r}")


def _run_cell(config: StudyConfig, folder: Path, variant: str, seed: int, given: Mapping[str, str]) -> Cell:
    values = _set(_values(config.run), {**given, **config.variants[variant]})
    values = _place(values, folder / RUNS_FOLDER, f"{variant}-seed{seed}", seed)
    return Cell(f"{variant} seed {seed}", values, f"variant {variant!r}")


def _set(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    # JSON is what `--set` reads, so a setting means the same in a study and on the command line.
    return apply_overrides(values, [f"{path}={json.dumps(value)}" for path, value in settings.items()])


def _values(source: str | Mapping[str, Any]) -> dict[str, Any]:
    return read_yaml(source) if isinstance(source, str) else dict(source)


def _place(values: dict[str, Any], runs_dir: Path, name: str, seed: int) -> dict[str, Any]:
    return {**values, "runs_dir": str(runs_dir), "name": name, "seed": seed, "resume": False, "replace": False}


def _chosen_metrics(config: StudyConfig, outcome: Outcome) -> dict[str, float]:
    if outcome.report is None:
        raise TrainingError(outcome.error)
    found = outcome.report["metrics"]
    for metric in config.metrics:
        if metric not in found:
            raise ConfigError(f"field 'metrics': the run's report has no {metric!r}", f"it has: {', '.join(found) or 'none'}")
        if found[metric] is None:
            raise TrainingError(f"metric {metric!r} is not finite")
    return {metric: found[metric] for metric in config.metrics}


def _write(config: StudyConfig, run: Run, cells: dict[tuple[str, int], dict[str, float]], outcomes: Sequence[Outcome]) -> None:
    variants = list(config.variants)
    rows = compare(
        cells,
        variants,
        config.metrics,
        reference=config.reference,
        lower_is_better=config.lower_is_better,
        confidence=config.confidence,
    )
    for name, frame in (("study", to_frame(rows)), ("cells", cells_frame(cells))):
        frame.to_parquet(run.folder / f"{name}.parquet", index=False)
        frame.to_csv(run.folder / f"{name}.csv", index=False)
        run.tables.append(str(run.folder / f"{name}.parquet"))
    for number, metric in enumerate(config.metrics):
        own = [row for row in rows if row.metric == metric]
        _report(config, run, own)
        file = run.folder / f"study-{number}.png"
        draw(file, own, cells, reference=config.reference, confidence=config.confidence)
        run.add_plot(metric, file)
    for name, gain in config.gains.items():
        found = gain_over_best(
            cells, gain.metric, gain.variant, gain.over, lower_is_better=gain.metric in config.lower_is_better, confidence=config.confidence
        )
        run.log({name: found.mean, f"{name}_lower": found.low, f"{name}_upper": found.high})
        run.headlines += [name, f"{name}_lower", f"{name}_upper"]
    run.headlines += [f"study/{variant}/{config.metrics[0]}" for variant in variants]
    run.log({"study/runs": len(outcomes), "study/runs_finished": len(cells)})
    seconds = [sum(o.report["seconds"].values()) for o in outcomes if o.report]
    if seconds:
        run.log({"study/seconds_per_run": statistics.fmean(seconds)})


def _report(config: StudyConfig, run: Run, rows: Sequence[Row]) -> None:
    level = f"{config.confidence:.0%} interval"
    columns = ["variant", "seeds", "mean", level]
    if config.reference is not None:
        columns += [f"minus {config.reference}", level, "wins"]
    table = []
    for row in rows:
        line: list[Any] = [row.variant, row.seeds, _number(row.mean), _between(row.low, row.high)]
        run.log({f"study/{row.variant}/{row.metric}": row.mean})
        if config.reference is not None and row.variant == config.reference:
            line += ["reference", "", ""]
        elif config.reference is not None:
            line += [_number(row.difference), _between(row.difference_low, row.difference_high), f"{row.wins} of {row.pairs}"]
            run.log({f"study/{row.variant}/{row.metric}/difference": row.difference, f"study/{row.variant}/{row.metric}/wins": row.wins})
        table.append(line)
    direction = "less is better" if rows[0].metric in config.lower_is_better else "more is better"
    run.add_table(rows[0].metric, columns, table, note=f"{direction}; t-intervals over seeds, differences paired within a seed")


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"


def _between(low: float, high: float) -> str:
    return "-" if low != low else f"{low:.4f} to {high:.4f}"
