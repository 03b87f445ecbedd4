"""Config of a study: what is run, what is made before and after each run, and what is compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.study_runs import usable_cpus

RUN = "run"
"""What steps after a run call that run."""


class StudyOutput(Config):
    """Something that another run of the same seed left behind."""

    from_: str = Field(alias="from")
    """An earlier entry of `tables`; in `after` also an earlier step, or `run`, the variant's own run."""
    output: str | None = None
    """File or folder within that run's folder; unset: what the entry gives."""


Reads = dict[str, str | StudyOutput]


class StudyWorld(Config):
    """A world that is simulated once per seed and given to that seed's runs."""

    config: PathStr | dict[str, Any]
    """The world's config: a file, or its content."""
    field: str | None = "data.path"
    """The field of the run that receives the folder of the world's tables; null: none does, see the study's `reads`."""


class StudyStep(Config):
    """A run that belongs to a seed and reads what others of that seed left behind."""

    config: PathStr | dict[str, Any]
    """The config of the run: a file, or its content."""
    reads: Reads = {}
    """Field of that config -> path in the world's folder, e.g. `{data.creatives: creatives.parquet}`, or an output of another run,
    e.g. `{artifact: {from: inspector}}`."""
    gives: Literal["tables", "artifacts"] = "tables"
    """What others receive of it: the first table or the first artifact that its report names."""
    seed_offset: int = Field(default=0, ge=0)
    """Added to the study's seed, for a run that is to be independent of the others."""

    def sources(self) -> dict[str, StudyOutput]:
        """The fields that read outputs of other runs."""
        return {field: source for field, source in self.reads.items() if isinstance(source, StudyOutput)}


class StudyTable(StudyStep):
    """A table or an artifact that is made once per seed and given to that seed's runs, e.g. the vectors of its world's creatives."""

    field: str | None = None
    """The field of the runs that receives its path; unset: only other entries read it."""


class StudyAfter(StudyStep):
    """A run that follows each variant's run and reads its outputs, e.g. an oracle that judges the pictures it made."""

    metrics: list[str] = []
    """Metrics of its report that join the variant's."""
    prefix: str = ""
    """Put before the names of `metrics`, where two steps report the same ones."""

    def joined(self) -> dict[str, str]:
        """Name among the variant's metrics -> name in this step's report."""
        return {self.prefix + metric: metric for metric in self.metrics}


class StudyGain(Config):
    """A figure of the study itself: how much a variant gains over the best of some others."""

    metric: str
    """One of the study's metrics."""
    variant: str
    """The variant that gains."""
    over: list[str] = []
    """The others; in each seed the best of them counts. None: the metric itself is the gain."""


class StudyCurves(Config):
    """A plot of one metric against another, such as what is gained against what it costs."""

    x: str
    """One of the study's metrics."""
    y: str
    """Another one."""
    lines: dict[str, list[str]] = Field(min_length=1)
    """Name of a line -> its variants in order, e.g. of one method over its strength."""


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
    """Name -> what else is made for each seed before the runs; an entry may read those above it."""
    reads: Reads = {}
    """What else every variant's run reads: field -> path in the world's folder, or an output of an entry of `tables`."""
    after: dict[str, StudyAfter] = {}
    """Name -> what is run after each variant's run; a step may read those above it."""
    metrics: list[str] = Field(min_length=1)
    """Metrics of the runs' reports to compare, and of the steps after them; the first is the study's headline."""
    lower_is_better: list[str] = []
    """Those of `metrics` of which the smaller value wins."""
    reference: str | None = None
    """The variant that the others are held against, seed by seed."""
    gains: dict[str, StudyGain] = {}
    """Name -> gain; reported under that name, with `_lower` and `_upper`, the ends of its interval over seeds."""
    curves: dict[str, StudyCurves] = {}
    """Title -> plot of variants' means along lines."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Probability of the intervals."""
    cpus_per_run: int = Field(default=1, ge=1)
    """CPUs, and so threads, of one run."""
    parallel: int | None = Field(default=None, ge=1)
    """Runs at a time; None fills this machine's CPUs."""

    @model_validator(mode="after")
    def _consistent(self) -> StudyConfig:
        compared = self.compared()
        if self.reference is not None and self.reference not in self.variants:
            raise ValueError(f"reference is {self.reference!r}; it must be one of the variants: {', '.join(self.variants)}")
        for name, gain in self.gains.items():
            if strangers := [v for v in (gain.variant, *gain.over) if v not in self.variants]:
                raise ValueError(f"gains.{name} names {strangers[0]!r}; it must be one of the variants: {', '.join(self.variants)}")
            if gain.metric not in compared:
                raise ValueError(f"gains.{name}.metric is {gain.metric!r}; it must be one of the metrics: {', '.join(compared)}")
        for title, curves in self.curves.items():
            if strangers := [metric for metric in (curves.x, curves.y) if metric not in compared]:
                raise ValueError(f"curves.{title} names {strangers[0]!r}; it must be one of the metrics: {', '.join(compared)}")
            if strangers := [v for line in curves.lines.values() for v in line if v not in self.variants]:
                raise ValueError(f"curves.{title} names {strangers[0]!r}; it must be one of the variants: {', '.join(self.variants)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; each seed must be named once")
        if self.tables and self.world is None:
            raise ValueError(f"tables.{next(iter(self.tables))} is made of a world; set world")
        strangers = sorted(set(self.lower_is_better) - set(compared))
        if strangers:
            raise ValueError(f"lower_is_better names {strangers[0]!r}; it must be one of the metrics: {', '.join(compared)}")
        return self

    @model_validator(mode="after")
    def _chained(self) -> StudyConfig:
        if clash := sorted(set(self.tables) & set(self.after)):
            raise ValueError(f"after.{clash[0]} has the name of an entry of tables; name it otherwise")
        if RUN in self.tables or RUN in self.after:
            raise ValueError(f"{RUN!r} is what steps call the variant's run; name the entry otherwise")
        _check_order("tables", self.tables, [])
        _check_order("after", self.after, [*self.tables, RUN])
        for field, source in self.reads.items():
            if isinstance(source, StudyOutput) and source.from_ not in self.tables:
                raise ValueError(f"reads.{field} is from {source.from_!r}; it must be one of tables: {', '.join(self.tables) or 'none'}")
        joined = [name for step in self.after.values() for name in step.joined()]
        if twice := sorted({name for name in joined if joined.count(name) > 1}):
            raise ValueError(f"after: metric {twice[0]!r} comes from two steps; give one of them a prefix")
        for where, reads in (("", self.reads), *((f"after.{name}.", step.reads) for name, step in self.after.items())):
            paths = [field for field, source in reads.items() if isinstance(source, str)]
            if paths and self.world is None:
                raise ValueError(f"{where}reads.{paths[0]} is in the world's folder; set world")
        return self

    def compared(self) -> list[str]:
        """Every metric that is compared: `metrics`, then what the steps after the runs add."""
        added = [name for step in self.after.values() for name in step.joined() if name not in self.metrics]
        return [*self.metrics, *added]

    def at_a_time(self) -> int:
        """Runs that are executed at the same time."""
        return self.parallel or max(1, usable_cpus() // self.cpus_per_run)


def _check_order(section: str, steps: Mapping[str, StudyStep], before: Iterable[str]) -> None:
    known = list(before)
    for name, step in steps.items():
        for field, source in step.sources().items():
            if source.from_ not in known:
                cure = f"one of {', '.join(known)}" if known else "an entry above it, and there is none"
                raise ValueError(f"{section}.{name}.reads.{field} is from {source.from_!r}; it must be {cure}")
            if source.from_ == RUN and source.output is None:
                raise ValueError(f"{section}.{name}.reads.{field} is from {RUN!r}; say which output")
        known.append(name)
