"""General pre-flight checks: what every run needs, whatever its kind. Each room adds its own."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from adray.checks import Check
from adray.config import RunConfig
from adray.errors import ConfigError, ResourceError
from adray.run import is_taken, name_problem, run_folder

TESTED = {"ray": "2.60.0", "torch": "2.13.0", "deepspeed": "0.19.8"}
"""The versions that `constraints.txt` pins and every figure was measured with."""

OLDEST_PYTHON = (3, 10)
LEAST_FREE_DISK = 2**30
"""Bytes: checkpoints are written beside the previous one before that is deleted."""
LEAST_FREE_MEMORY = 2**30
"""Bytes: Ray's own processes and an object store of 200 MB take about this much."""


def general_checks(config: RunConfig, *, owns_folder: bool) -> Iterator[Check]:
    """Check the machine, the installed packages, the storage and the run's name.

    Args:
        config: The run's config.
        owns_folder: True when the verb starts a run, so that its name must be free (or `resume` / `replace` set).

    Yields:
        One outcome per check, cheapest first.
    """
    yield Check("config", f"kind {config.kind}, run {config.name!r}, seed {config.seed}: every key known, every value allowed")
    yield _python()
    yield _packages()
    yield _memory()
    yield from _storage(config)
    yield _run_name(config, owns_folder)


def _python() -> Check:
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Check(
            "python", platform.python_version(), ResourceError(f"Python {platform.python_version()} is too old", f"use {oldest} or newer")
        )
    return Check("python", platform.python_version())


def _packages() -> Check:
    """Compare every installed package with what adray requires; tell where the three big ones differ from the tested set."""
    try:
        required = importlib.metadata.requires("adray") or []
    except importlib.metadata.PackageNotFoundError:
        error = ResourceError("package adray is not installed", "run `pip install -c constraints.txt -e .` in the project's folder")
        return Check("packages", "adray is not installed", error)
    for text in required:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        problem = _unmet(requirement)
        if problem:
            return Check("packages", problem, ResourceError(problem, "run `pip install -c constraints.txt -e .`"))
    return Check("packages", ", ".join(_beside_tested(name) for name in TESTED))


def _unmet(requirement: Requirement) -> str | None:
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"package {requirement.name} is not installed"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"package {requirement.name} is {found}, adray needs {requirement.specifier}"
    return None


def _beside_tested(name: str) -> str:
    found = importlib.metadata.version(name)
    return f"{name} {found}" if found.split("+")[0] == TESTED[name] else f"{name} {found} (tested: {TESTED[name]})"


def _memory() -> Check:
    free = psutil.virtual_memory().available
    detail = f"{_gib(free)} free of {_gib(psutil.virtual_memory().total)}"
    if free < LEAST_FREE_MEMORY:
        return Check(
            "memory",
            detail,
            ResourceError(f"{_gib(free)} of memory free, at least {_gib(LEAST_FREE_MEMORY)} needed", "close other programs"),
        )
    return Check("memory", detail)


def _storage(config: RunConfig) -> Iterator[Check]:
    name = "storage writable"
    if "://" in config.runs_dir:
        error = ConfigError(f"field 'runs_dir' is {config.runs_dir!r}, not a local path", "mount the storage and give the mount's path")
        yield Check(name, config.runs_dir, error)
        return
    folder = run_folder(config)
    parent = nearest_folder(folder)
    in_the_way = next((p for p in (folder, *folder.parents) if p.is_file()), None)
    if in_the_way is not None:
        error = ConfigError(f"field 'runs_dir': {in_the_way} is a file", "choose another folder with --set runs_dir=...")
        yield Check(name, str(in_the_way), error)
        return
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        cure = "choose another folder with --set runs_dir=..."
        yield Check(name, str(parent), ResourceError(f"field 'runs_dir': {parent} cannot be written to: {error.strerror}", cure))
        return
    yield Check(name, str(parent))
    free = shutil.disk_usage(parent).free
    detail = f"{_gib(free)} free at {parent}"
    if free < LEAST_FREE_DISK:
        cure = "free some, or choose another disk with --set runs_dir=..."
        yield Check("disk", detail, ResourceError(f"{detail}, at least {_gib(LEAST_FREE_DISK)} needed", cure))
    else:
        yield Check("disk", detail)


def _run_name(config: RunConfig, owns_folder: bool) -> Check:
    folder = run_folder(config)
    taken = is_taken(folder)
    if not owns_folder:
        return Check("run", f"{'reads' if taken else 'makes'} {folder}")
    state = "free" if not taken else "resumed" if config.resume else "replaced" if config.replace else "taken"
    return Check("run name", f"{folder} is {state}", name_problem(config))


def nearest_folder(path: Path) -> Path:
    """The deepest folder on `path` that exists; a run's own folders are made only when it starts."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
