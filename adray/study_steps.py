"""The runs of a study: which there are, what each reads, and executing them in an order in which all is there when it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adray.config import apply_overrides, read_yaml
from adray.study_config import RUN, Reads, StudyConfig, StudyOutput, StudyStep, StudyWorld
from adray.study_runs import Cell, Outcome, execute

RUNS_FOLDER = "runs"
WORLDS_FOLDER = "worlds"
TABLES_FOLDER = "tables"
AFTER_FOLDER = "after"
WORLD = ""
"""What the world's run is called among the runs that are there."""


@dataclass
class Made:
    """What is there for the runs of one seed, or of one variant of it.

    Attributes:
        world: Folder of the world's tables; None without a world.
        runs: Name of a finished run -> the run; the world's is `WORLD`.
        given: Name -> what its report says that it gives.
    """

    world: Path | None = None
    runs: dict[str, Cell] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)

    def after(self, run: Cell) -> Made:
        """The same after a variant's run."""
        return Made(self.world, {**self.runs, RUN: run}, dict(self.given))

    def path(self, source: str | StudyOutput) -> str:
        """Where what a step reads lies."""
        if isinstance(source, str):
            assert self.world is not None
            return str(self.world / source)
        return self.given[source.from_] if source.output is None else str(self.runs[source.from_].folder / source.output)

    def needs(self, reads: Reads) -> tuple[Path, ...]:
        """Reports of the runs that are read from."""
        names = {WORLD if isinstance(source, str) else source.from_ for source in reads.values()}
        return tuple(self.runs[name].report_file for name in sorted(names))


class Steps:
    """The runs of a study.

    Args:
        config: The study.
        folder: Its run's folder.

    Attributes:
        failures: Label -> error of each run that failed.
    """

    def __init__(self, config: StudyConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.failures: dict[str, str] = {}

    def worlds(self) -> dict[int, Made]:
        """Simulate the worlds; seeds that failed are left out."""
        world = self.config.world
        if world is None:
            return {seed: Made() for seed in self.config.seeds}
        made: dict[int, Made] = {}
        cells = [world_cell(world, self.folder, seed) for seed in self.config.seeds]
        for seed, outcome in zip(self.config.seeds, self._execute(cells), strict=True):
            if outcome.report is None:
                self.failures[outcome.cell.label] = outcome.error
            else:
                made[seed] = Made(Path(os.path.commonpath(outcome.report["tables"])), {WORLD: outcome.cell})
        return made

    def tables(self, made: dict[int, Made]) -> None:
        """Make the entries of `tables` and add them to what is there; seeds of which one failed are left out."""
        for level in levels(self.config.tables):
            keys = [(name, seed) for seed in made for name in level]
            cells = [table_cell(self.config, name, self.folder, seed, made[seed]) for name, seed in keys]
            for (name, seed), outcome in zip(keys, self._execute(cells), strict=True):
                if not self._add(made.get(seed), name, self.config.tables[name], outcome):
                    made.pop(seed, None)

    def runs(self, made: Mapping[int, Made]) -> dict[tuple[str, int], Outcome]:
        """Execute every variant with every seed: (variant, seed) -> outcome."""
        keys = [(variant, seed) for seed in made for variant in self.config.variants]
        outcomes = self._execute([run_cell(self.config, self.folder, v, s, made[s]) for v, s in keys])
        return dict(zip(keys, outcomes, strict=True))

    def after(self, made: Mapping[int, Made], outcomes: Mapping[tuple[str, int], Outcome]) -> dict[tuple[str, int], dict[str, Outcome]]:
        """Execute the steps after each finished run: (variant, seed) -> step -> outcome; those after one that failed are left out."""
        found: dict[tuple[str, int], dict[str, Outcome]] = {key: {} for key in outcomes}
        there = {key: made[key[1]].after(outcome.cell) for key, outcome in outcomes.items() if outcome.report is not None}
        for level in levels(self.config.after):
            keys = [(key, name) for key in there for name in level]
            cells = [after_cell(self.config, name, self.folder, *key, there[key]) for key, name in keys]
            for (key, name), outcome in zip(keys, self._execute(cells), strict=True):
                found[key][name] = outcome
                if not self._add(there.get(key), name, self.config.after[name], outcome):
                    there.pop(key, None)
        return found

    def _execute(self, cells: Sequence[Cell]) -> list[Outcome]:
        return execute(cells, self.config.cpus_per_run, self.config.at_a_time())

    def _add(self, made: Made | None, name: str, step: StudyStep, outcome: Outcome) -> bool:
        """Take up what a step left behind; False where it failed or gives nothing although others take it."""
        if outcome.report is None:
            self.failures[outcome.cell.label] = outcome.error
            return False
        gifts = outcome.report[step.gives]
        if not gifts and self._is_taken(name):
            self.failures[outcome.cell.label] = f"its report names no {step.gives.removesuffix('s')}"
            return False
        if made is not None:
            made.runs[name] = outcome.cell
            if gifts:
                made.given[name] = gifts[0]
        return True

    def _is_taken(self, name: str) -> bool:
        """Whether anything takes what a step gives, rather than a file of its folder."""
        steps: list[StudyStep] = [*self.config.tables.values(), *self.config.after.values()]
        read = [self.config.reads, *(step.reads for step in steps)]
        by_runs = name in self.config.tables and self.config.tables[name].field is not None
        outputs = [source for reads in read for source in reads.values() if isinstance(source, StudyOutput)]
        return by_runs or any(source.from_ == name and source.output is None for source in outputs)


def levels(steps: Mapping[str, StudyStep]) -> list[list[str]]:
    """Names of steps in groups: each group reads only from the groups before it, and its members can be executed side by side."""
    depth: dict[str, int] = {}
    for name, step in steps.items():
        depth[name] = max((depth[source.from_] + 1 for source in step.sources().values() if source.from_ in depth), default=0)
    return [[name for name in steps if depth[name] == level] for level in range(max(depth.values(), default=-1) + 1)]


def dry_cells(config: StudyConfig, folder: Path) -> Iterator[Cell]:
    """One cell of each variant, then of each other part, with the study's folder in place of what is not there yet."""
    seed = config.seeds[0]
    names = [WORLD, *config.tables, *config.after, RUN]
    itself = Cell("study", config.model_dump(mode="json"), config.name)
    made = Made(folder if config.world else None, dict.fromkeys(names, itself), dict.fromkeys(names, str(folder)))
    for variant in config.variants:
        yield run_cell(config, folder, variant, seed, made)
    if config.world is not None:
        yield world_cell(config.world, folder, seed)
    for name in config.tables:
        yield table_cell(config, name, folder, seed, made)
    for name in config.after:
        yield after_cell(config, name, folder, next(iter(config.variants)), seed, made)


def world_cell(world: StudyWorld, folder: Path, seed: int) -> Cell:
    """The simulation of a seed's world."""
    values = _place(_values(world.config), folder / WORLDS_FOLDER, f"seed{seed}", seed)
    return Cell(f"world of seed {seed}", values, str(world.config))


def table_cell(config: StudyConfig, name: str, folder: Path, seed: int, made: Made) -> Cell:
    """The run that makes an entry of `tables` for a seed."""
    step = config.tables[name]
    values = _place(_step_values(step, made), folder / TABLES_FOLDER, f"{name}-seed{seed}", seed + step.seed_offset)
    return Cell(f"{name} of seed {seed}", values, f"table {name!r}", made.needs(step.reads))


def run_cell(config: StudyConfig, folder: Path, variant: str, seed: int, made: Made) -> Cell:
    """A variant's run with a seed."""
    reads: Reads = {table.field: StudyOutput(**{"from": n}) for n, table in config.tables.items() if table.field is not None}
    if config.world is not None and config.world.field is not None:
        reads = {config.world.field: ".", **reads}
    reads |= config.reads
    values = _set(_values(config.run), {**_settings(reads, made), **config.variants[variant]})
    values = _place(values, folder / RUNS_FOLDER, f"{variant}-seed{seed}", seed)
    return Cell(f"{variant} seed {seed}", values, f"variant {variant!r}", made.needs(reads))


def after_cell(config: StudyConfig, name: str, folder: Path, variant: str, seed: int, made: Made) -> Cell:
    """A step after a variant's run with a seed."""
    step = config.after[name]
    values = _place(_step_values(step, made), folder / AFTER_FOLDER, f"{name}-{variant}-seed{seed}", seed + step.seed_offset)
    return Cell(f"{name} after {variant} seed {seed}", values, f"step {name!r}", made.needs(step.reads))


def _step_values(step: StudyStep, made: Made) -> dict[str, Any]:
    return _set(_values(step.config), _settings(step.reads, made))


def _settings(reads: Reads, made: Made) -> dict[str, str]:
    return {name: made.path(source) for name, source in reads.items()}


def _set(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    # JSON is what `--set` reads, so a setting means the same in a study and on the command line.
    return apply_overrides(values, [f"{path}={json.dumps(value)}" for path, value in settings.items()])


def _values(source: str | Mapping[str, Any]) -> dict[str, Any]:
    return read_yaml(source) if isinstance(source, str) else dict(source)


def _place(values: dict[str, Any], runs_dir: Path, name: str, seed: int) -> dict[str, Any]:
    return {**values, "runs_dir": str(runs_dir), "name": name, "seed": seed, "resume": False, "replace": False}
