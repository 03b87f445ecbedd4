"""What a ranker's verbs need of the run's folder, found before anything in it is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adray.checks import Check
from adray.config import read_yaml
from adray.errors import AdrayError, ArtifactError, ConfigError
from adray.ranking.run_config import RankerRunConfig
from adray.run import CONFIG_FILE, run_folder
from adray.training.checkpoint import list_checkpoints
from adray.training.loop import CHECKPOINTS, EXPORT


def run_checks(config: RankerRunConfig, verb: str) -> Iterator[Check]:
    """Check that the run holds what the verb reads. A refused verb thus leaves no folder that would take the run's name.

    Args:
        config: The run's config.
        verb: `train`, `evaluate` or `export`.

    Yields:
        One outcome for `evaluate`, `export`, and `train` that resumes; none for a fresh `train`.
    """
    folder = run_folder(config)
    try:
        started = bool(list_checkpoints(folder / CHECKPOINTS))
    except AdrayError as error:
        yield Check("checkpoints", str(folder / CHECKPOINTS), error)
        return
    if verb == "evaluate":
        yield _exported(config.name, folder / EXPORT, started)
    elif verb == "export":
        missing = ArtifactError(f"run {config.name!r} has no checkpoint in {folder / CHECKPOINTS}", "train it first")
        yield Check("checkpoints", str(folder / CHECKPOINTS), None if started else missing)
    if started and (verb == "export" or (verb == "train" and config.resume)):
        yield _same_model(config, folder / CONFIG_FILE)


def _exported(name: str, folder: Path, started: bool) -> Check:
    if any((folder / half).exists() for half in ("light", "heavy")):
        return Check("artifacts", str(folder))
    cure = "write it with `export`, or go on with `train --set resume=true`" if started else "train it first"
    return Check("artifacts", str(folder), ArtifactError(f"run {name!r} has no artifact in {folder}", cure))


def _same_model(config: RankerRunConfig, saved: Path) -> Check:
    """The run's weights fit only the model they were trained for."""
    if not saved.is_file():
        return Check("same model", f"no {saved}")
    before, now = _leaves(read_yaml(saved).get("model") or {}), _leaves(config.model.model_dump(mode="json"))
    differing = [name for name in now.keys() | before.keys() if now.get(name) != before.get(name)]
    if not differing:
        return Check("same model", f"as in {saved}")
    name = min(differing)
    problem = f"field 'model.{name}' is {now.get(name)!r}, the run's checkpoints were made with {before.get(name)!r} ({saved})"
    return Check("same model", str(saved), ConfigError(problem, "set it back, or start a run of another name"))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of everything below; lists are values."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
