"""A real kind of config, small enough to be understood at a glance: its metrics are simple functions of its fields."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from adray.checks import Check
from adray.config import Config, RunConfig
from adray.errors import DataError, TrainingError
from adray.run import Run


class InnerConfig(Config):
    effect: float = 0.0
    """Added to the metric."""


class EchoConfig(RunConfig):
    inner: InnerConfig = InnerConfig()
    fail: str = ""
    """`check`, `user`, `bug`, `die` or `seed N`: where to fail."""
    slope: float = 10.0
    world: str = ""
    """Folder of a world, whose bonus is added."""
    table: str = ""
    """File of another bonus."""
    steps: int = Field(default=1, ge=1)


CONFIG = EchoConfig


def checks(config: EchoConfig, verb: str) -> Iterator[Check]:
    yield Check("echo", f"verb {verb}")
    failing = config.fail == "check"
    yield Check("room", "looked", DataError("table x is missing", "make it") if failing else None)


def _bonus(world: str) -> float:
    return float((Path(world) / "bonus").read_text())


def simulate(config: EchoConfig, run: Run) -> None:
    folder = run.folder / "tables"
    folder.mkdir()
    # One that is made of a world, not drawn by its seed, halves that world's.
    bonus = _bonus(config.world) / 2 if config.world else 100 * config.seed
    (folder / "bonus").write_text(str(bonus))
    (folder / "other").write_text("")
    if config.fail != f"seed {config.seed}":
        run.tables += [str(folder / "bonus"), str(folder / "other")]


def train(config: EchoConfig, run: Run) -> None:
    print("noise on stdout")
    print("noise on stderr", file=sys.stderr)
    (run.folder / "starts").open("a").write("x")
    if config.fail == "user" or config.fail == f"seed {config.seed}":
        raise TrainingError("loss is nan at step 3", "lower the learning rate")
    if config.fail == "die":
        os._exit(9)
    if config.fail == "bug":
        raise ZeroDivisionError("a bug\nof two lines")
    bonus = (_bonus(config.world) if config.world else 0.0) + (float(Path(config.table).read_text()) if config.table else 0.0)
    with run.stage("train"):
        # Seeds differ by far more than variants: only the paired view sees the variant's effect.
        value = config.slope * config.seed + config.inner.effect + bonus
        run.log({"echo/value": value, "echo/steps": config.steps, "echo/pid": os.getpid()})
        (run.folder / "export").write_text(str(value))
    run.artifacts.append(str(run.folder / "export"))
