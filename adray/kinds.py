"""The kinds of config and what can be done with each: the one table behind the command line and behind studies.

A kind's module has `CONFIG` (a `RunConfig` subclass), one function per verb it supports
(`def train(config, run) -> None`), and `checks(config, verb)` with the checks of its room.
"""

from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from adray.checks import Check, raise_first
from adray.config import Config, RunConfig, apply_overrides, read_yaml, validate
from adray.errors import AdrayError, ConfigError
from adray.files import write_text
from adray.jobs.config import SubmitConfig
from adray.run import Run, open_run

VERBS = ("demo", "simulate", "train", "evaluate", "export", "generate", "extract", "embed", "index", "inspect", "serve", "study")
"""Every verb that executes a run. `check` is not one: it executes nothing."""

STARTING_VERBS = frozenset({"demo", "simulate", "train", "generate", "extract", "embed", "index", "inspect", "study"})
"""Verbs that start a run and so own its folder; the others read a run that is there."""

ERROR_FILE = "error.log"


@dataclass(frozen=True)
class Kind:
    """One kind of config.

    Attributes:
        module: The module that executes it; imported only when such a config is read.
        main_verb: The verb that starts a run of this kind, the one `check` looks ahead to.
    """

    module: str
    main_verb: str


KINDS: dict[str, Kind] = {
    "world": Kind("adray.simulation.verbs", "simulate"),
    "ranker": Kind("adray.ranking.verbs", "train"),
    "moco": Kind("adray.representation.moco.verbs", "train"),
    "encoder": Kind("adray.representation.encoder_verbs", "train"),
    "embedding": Kind("adray.representation.embedding.verbs", "embed"),
    "index": Kind("adray.representation.retrieval.verbs", "index"),
    "serve": Kind("adray.serving.verbs", "serve"),
    "study": Kind("adray.study", "study"),
    "demo": Kind("adray.demo", "demo"),
    "annotations": Kind("adray.simulation.annotations_verbs", "simulate"),
    "rfnet": Kind("adray.feedback.verbs", "train"),
    "inspection": Kind("adray.feedback.inspection.verbs", "inspect"),
    "oracle": Kind("adray.simulation.oracle.verbs", "inspect"),
    "diffusion": Kind("adray.generation.diffusion.verbs", "train"),
    "rfft": Kind("adray.generation.rfft.verbs", "train"),
    "generation": Kind("adray.generation.recurrent.verbs", "generate"),
    "attributes": Kind("adray.representation.attributes.verbs", "extract"),
    "attribute_heads": Kind("adray.representation.attributes.heads_verbs", "train"),
}


class _BesideTheRun(Config):
    """Sections that any kind's file may have and that its run does not see."""

    submit: SubmitConfig = SubmitConfig()


@dataclass(frozen=True)
class Job:
    """A validated config together with the kind that executes it.

    Attributes:
        kind: Its entry in `KINDS`.
        module: The kind's imported module.
        config: The resolved config.
        submit: The file's `submit` section: how it is handed to a cluster. No part of the run.
    """

    kind: Kind
    module: ModuleType
    config: RunConfig
    submit: SubmitConfig

    def verbs(self) -> list[str]:
        """The verbs that this kind supports."""
        return [verb for verb in VERBS if callable(getattr(self.module, verb, None))]

    def require(self, verb: str) -> None:
        """Refuse a verb that the kind does not support.

        Raises:
            ConfigError: Naming the verbs that it does.
        """
        if verb not in self.verbs():
            raise ConfigError(f"kind {self.config.kind!r} cannot {verb}", f"verbs of this kind: {', '.join(self.verbs())}")

    def room_checks(self, verb: str) -> Iterable[Check]:
        """The checks of the kind's own room."""
        return self.module.checks(self.config, verb)


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a config file, apply overrides and validate it.

    Args:
        path: A YAML file with a `kind`.
        overrides: `a.b=c` texts, as given to `--set`.

    Raises:
        ConfigError: If the file, an override or a field is wrong.
    """
    return make_job(apply_overrides(read_yaml(path), overrides), str(path))


def make_job(values: dict[str, Any], source: str) -> Job:
    """Validate parsed values with the config class of their kind.

    Args:
        values: The whole config, `kind` included.
        source: What to call its origin in errors.

    Raises:
        ConfigError: If the kind is missing or unknown, or a field is wrong.
    """
    name = values.get("kind")
    if name is None:
        raise ConfigError(f"{source}: field 'kind' is missing", f"add one of: {', '.join(KINDS)}")
    if not isinstance(name, str) or name not in KINDS:
        near = difflib.get_close_matches(str(name), KINDS, n=1)
        raise ConfigError(f"{source}: kind {name!r} is unknown", f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KINDS)}")
    module = importlib.import_module(KINDS[name].module)
    beside = {key: values[key] for key in _BesideTheRun.model_fields if key in values}
    run = {key: value for key, value in values.items() if key not in beside}
    return Job(KINDS[name], module, validate(module.CONFIG, run, source), validate(_BesideTheRun, beside, source).submit)


def all_checks(job: Job, verb: str) -> Iterable[Check]:
    """The general checks, then those of the kind's room."""
    from adray.preflight import general_checks

    yield from general_checks(job.config, owns_folder=verb in STARTING_VERBS)
    yield from job.room_checks(verb)


def perform(job: Job, verb: str) -> tuple[Run, dict[str, Any]]:
    """Execute one verb: checks first, then the run, then `report.json` and `report.html`.

    Returns:
        The finished run and its report.

    Raises:
        AdrayError: Whatever the user has to mend; the traceback of a run that had started is in its `error.log`.
    """
    from adray.report_html import write_html

    job.require(verb)
    raise_first(all_checks(job, verb))
    run = open_run(job.config, owns_folder=verb in STARTING_VERBS)
    try:
        getattr(job.module, verb)(job.config, run)
        report = run.finish(verb)
        write_html(run, report, job.config)
    except Exception:
        write_text(run.folder / ERROR_FILE, traceback.format_exc())
        raise
    (run.folder / ERROR_FILE).unlink(missing_ok=True)
    return run, report


def user_error(error: BaseException) -> AdrayError | None:
    """The user's error inside an exception, also where Ray carried it over from another process; None if there is none."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        # An error that Ray re-raises is of both classes, and its text is a whole remote traceback: take the cause.
        inner = getattr(current, "cause", None)
        if isinstance(current, AdrayError) and not isinstance(inner, AdrayError):
            return current
        queue += [e for e in (inner, current.__cause__) if isinstance(e, BaseException)]
    return None
