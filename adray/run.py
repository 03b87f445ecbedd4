"""The run: one config executed once. Owns a folder and ends in `report.json` and `report.html`."""

from __future__ import annotations

import importlib.metadata
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from adray.config import RunConfig, dump_yaml, read_yaml
from adray.errors import AdrayError, ConfigError, RunExistsError
from adray.files import write_json, write_text

CONFIG_FILE = "config.yaml"
REPORT_FILE = "report.json"
REPORTS_FOLDER = "reports"
CHECKPOINTS_FOLDER = "checkpoints"
_ALWAYS_FREE = frozenset({"name", "runs_dir", "resume", "replace"})
_REPORTED_PACKAGES = ("adray", "ray", "torch", "deepspeed", "pyarrow", "numpy")


@dataclass(frozen=True)
class Plot:
    """A picture of the HTML report: its title and the PNG or SVG file that holds it."""

    title: str
    path: Path


@dataclass(frozen=True)
class ReportTable:
    """A table of the HTML report.

    Attributes:
        title: Its heading.
        columns: Column headings.
        rows: Cells, one sequence per row, as long as `columns`.
        note: A sentence printed under it, e.g. the command that made it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


@dataclass
class Run:
    """A run in progress: where its files go and what its report will say.

    Attributes:
        folder: `<runs_dir>/<name>`.
        seconds: Wall time of each finished stage.
        metrics: Flat dotted or slashed name -> number.
        artifacts: Folders of the artifacts written.
        tables: Paths of the tables written.
        headlines: Names of the metrics that the report and the summary show first.
        plots: Pictures for the HTML report, in order.
        report_tables: Tables for the HTML report, in order.
    """

    name: str
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    headlines: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    report_tables: list[ReportTable] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; stages of the same name add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def log(self, metrics: Mapping[str, float]) -> None:
        """Add metrics to the report. A value that is not finite is kept, and written as null."""
        self.metrics.update({name: float(value) for name, value in metrics.items()})

    def add_plot(self, title: str, path: str | Path) -> None:
        """Show a picture in the HTML report.

        Args:
            title: Its heading.
            path: A PNG or SVG file that exists; a relative path is taken from the run's folder.

        Raises:
            ValueError: If there is no such file or it is of another type.
        """
        file = self.folder / path
        if file.suffix not in {".png", ".svg"} or not file.is_file():
            raise ValueError(f"plot {title!r}: {file} is not a PNG or SVG file")
        self.plots.append(Plot(title, file))

    def add_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        """Show a table in the HTML report.

        Args:
            title: Its heading.
            columns: Column headings.
            rows: Cells (text, numbers, None, booleans), one sequence per row.
            note: A sentence printed under it.

        Raises:
            ValueError: If a row is not as long as `columns`.
        """
        table = ReportTable(title, tuple(columns), tuple(tuple(row) for row in rows), note)
        for row in table.rows:
            if len(row) != len(table.columns):
                raise ValueError(f"table {title!r} has {len(table.columns)} columns and a row of {len(row)} cells: {row!r}")
        self.report_tables.append(table)

    def report(self, verb: str) -> dict[str, Any]:
        """The report as it would be written now."""
        return {
            "verb": verb,
            "name": self.name,
            "seconds": {stage: round(s, 3) for stage, s in self.seconds.items()},
            "metrics": {k: v if math.isfinite(v) else None for k, v in sorted(self.metrics.items())},
            "artifacts": self.artifacts,
            "tables": self.tables,
            "versions": versions(),
        }

    def finish(self, verb: str) -> dict[str, Any]:
        """Write `report.json` (the last verb's) and `reports/<verb>.json` (kept per verb); return the report."""
        report = self.report(verb)
        write_json(self.folder / REPORTS_FOLDER / f"{verb}.json", report)
        write_json(self.folder / REPORT_FILE, report)
        return report


def run_folder(config: RunConfig) -> Path:
    """Where a run's files go: `<runs_dir>/<name>`."""
    return Path(config.runs_dir) / config.name


def is_taken(folder: Path) -> bool:
    """True if the folder of a run holds anything."""
    return folder.is_dir() and any(folder.iterdir())


def name_problem(config: RunConfig) -> AdrayError | None:
    """Why a run of this name may not be started; None if it may."""
    folder = run_folder(config)
    if config.resume and config.replace:
        return ConfigError("fields 'resume' and 'replace' are both true", "set one of them")
    if not is_taken(folder):
        return None
    if config.resume:
        return _resume_problem(config, folder)
    if not config.replace:
        return RunExistsError(f"run {config.name!r} exists in {folder}", "choose another name, or --set resume=true, or --set replace=true")
    if not (folder / CONFIG_FILE).is_file():
        cure = "remove it yourself or choose another name"
        return ConfigError(f"{folder} is not a run's folder (no {CONFIG_FILE}), so it is not replaced", cure)
    return None


def _resume_problem(config: RunConfig, folder: Path) -> AdrayError | None:
    """Why a run cannot go on with this config: a setting that shapes its result is not what its checkpoints were made with."""
    saved = folder / CONFIG_FILE
    if config.FREE_ON_RESUME is None or not saved.is_file() or not any((folder / CHECKPOINTS_FOLDER).glob("step-*")):
        return None
    for name, before, now in _changed_fields(config, read_yaml(saved), config.FREE_ON_RESUME | _ALWAYS_FREE):
        problem = f"field {name!r} is {now!r}, but the run's checkpoints were made with {before!r} ({saved})"
        return ConfigError(problem, "set it back, or choose another name, or --set replace=true --set resume=false")
    return None


def _changed_fields(config: BaseModel, saved: Mapping[str, Any], free: frozenset[str], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, saved value, present value) of every field that differs; fields that were not saved are new, and left alone."""
    values = config.model_dump(mode="json")
    for field_name, now in values.items():
        name = above + field_name
        if name in free or field_name not in saved:
            continue
        before, section = saved[field_name], getattr(config, field_name)
        if isinstance(section, BaseModel) and isinstance(before, Mapping):
            yield from _changed_fields(section, before, free, f"{name}.")
        elif now != before:
            yield name, before, now


def open_run(config: RunConfig, *, owns_folder: bool) -> Run:
    """Open the run's folder and save the resolved config in it.

    Args:
        config: The run's config.
        owns_folder: True for verbs that start a run (`train`, `simulate`): an existing run is then refused,
            resumed or replaced as the config says. False for verbs that read one (`evaluate`, `export`, `serve`).

    Raises:
        RunExistsError: If the run exists and neither `resume` nor `replace` is set.
        ConfigError: If both are set, the folder to replace is not a run's, or the run to resume was begun with other settings.
    """
    folder = run_folder(config)
    if owns_folder:
        problem = name_problem(config)
        if problem is not None:
            raise problem
        if config.replace and is_taken(folder):
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if owns_folder:
        write_text(folder / CONFIG_FILE, dump_yaml(config))
    return Run(config.name, folder)


def versions() -> dict[str, str]:
    """Versions of the packages that shape a run's numbers; absent ones are left out."""
    found = {}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_report(folder: str | Path) -> dict[str, Any]:
    """Read a run's `report.json`.

    Raises:
        ConfigError: If the folder holds none.
    """
    path = Path(folder) / REPORT_FILE
    if not path.is_file():
        raise ConfigError(f"no report at {path}", "the run has not finished a verb yet")
    return json.loads(path.read_text(encoding="utf-8"))
