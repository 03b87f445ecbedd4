"""Where metrics go: `metrics.jsonl` always, W&B when configured. Rank 0 only.

A tracker that breaks is switched off with one warning; it never stops the run and never hides the run's own error.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from adray.errors import ConfigError
from adray.files import write_text
from adray.training.config import TrackingConfig

METRICS_FILE = "metrics.jsonl"
_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Takes what a run measures."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""

    def pictures(self, step: int, pictures: Mapping[str, Any]) -> None:
        """Pictures by name: NumPy uint8 `[height, width, 3]`."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of plain values."""

    def artifact(self, folder: Path) -> None:
        """An exported artifact (a folder with `artifact.json`)."""

    def close(self, failed: bool) -> None:
        """The run has ended."""


class JsonLines:
    """Rows of `{"step", "time", <metrics>}`, flushed one by one.

    Args:
        path: The file. On a resumed run, rows after `step` were measured by work that was lost and are dropped.
        step: Where the run goes on.
    """

    def __init__(self, path: Path, step: int) -> None:
        rows = read_metrics(path)
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))
        # Unbuffered: a row is in the file when the call returns, and nothing is left to write when closing.
        self._stream = path.open("ab", buffering=0)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; a value that is not finite is written as null."""
        row = {"step": step, "time": round(time.time(), 3), **{k: v if math.isfinite(v) else None for k, v in values.items()}}
        line = (json.dumps(row) + "\n").encode()
        try:
            written = self._stream.write(line)
        except OSError:
            self._stream.close()
            raise
        if written != len(line):
            self._stream.close()
            raise OSError(f"{self._stream.name}: only {written} of {len(line)} bytes could be written")

    def pictures(self, step: int, pictures: Mapping[str, Any]) -> None:
        """Text only."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Text only."""

    def artifact(self, folder: Path) -> None:
        """Text only."""

    def close(self, failed: bool) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`; a last line that was cut off is passed over."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows


class Trackers:
    """All trackers of a run as one; a broken one is dropped with a warning."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.metrics`."""
        self._each(lambda t: t.metrics(step, values))

    def pictures(self, step: int, pictures: Mapping[str, Any]) -> None:
        """See `Tracker.pictures`."""
        self._each(lambda t: t.pictures(step, pictures))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Tracker.table`."""
        self._each(lambda t: t.table(name, columns, rows))

    def artifacts(self, folder: Path) -> None:
        """Every artifact in `folder` or below; see `Tracker.artifact`."""
        for manifest in sorted(folder.rglob("artifact.json")):
            self._each(lambda t, found=manifest.parent: t.artifact(found))  # type: ignore[misc]

    def close(self, failed: bool) -> None:
        """See `Tracker.close`."""
        self._each(lambda t: t.close(failed))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:  # whatever a tracker raises, training goes on
                self._trackers.remove(tracker)
                text = " ".join(str(error).split())
                _log.warning("tracker %s is switched off, training goes on: %s: %s", type(tracker).__name__, type(error).__name__, text)


def check_tracking(config: TrackingConfig) -> None:
    """Refuse settings that can only fail later.

    Raises:
        ConfigError: If W&B is to be online and there is no key.
    """
    if config.wandb == "online" and not os.environ.get("WANDB_API_KEY"):
        raise ConfigError("tracking.wandb is 'online' but WANDB_API_KEY is not set", "export the key or set tracking.wandb=offline")


def open_trackers(config: TrackingConfig, run_folder: Path, run_name: str, record: Mapping[str, Any], step: int) -> Trackers:
    """Open the run's trackers on rank 0.

    Args:
        config: Which ones.
        run_folder: Where their files go.
        run_name: The run's name.
        record: The resolved config, sent to W&B.
        step: Where the run starts or goes on.

    Raises:
        ConfigError: If W&B is to be online and there is no key.
    """
    check_tracking(config)
    trackers: list[Tracker] = [JsonLines(run_folder / METRICS_FILE, step)]
    if config.wandb != "off":
        from adray.training.wandb_tracker import WandbTracker

        try:
            trackers.append(WandbTracker(config, run_folder, run_name, record))
        except Exception as error:  # as in Trackers
            text = " ".join(str(error).split())
            _log.warning("W&B could not be started, training goes on without it: %s: %s", type(error).__name__, text)
    return Trackers(trackers)
