"""How the loop talks to whatever started it: a plain process, torchrun, or Ray Train."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from adray.errors import TrainingError

STOP_FILE = "stop"
"""In the run's folder: asks the workers to make a checkpoint and stop."""


class TrainingStoppedError(TrainingError):
    """Training was asked to stop; it made a checkpoint first."""

    exit_code = 130


class Reporter(Protocol):
    """The launcher's side of the loop."""

    def stop_requested(self) -> bool:
        """Whether this rank was asked to stop; the ranks agree among themselves."""

    def preempted(self) -> bool:
        """Whether a node is about to be taken away. All ranks call it together."""

    def report(self, metrics: Mapping[str, float]) -> None:
        """Tell the launcher about a checkpoint or the end of an epoch. All ranks call it equally often."""


class LocalReporter:
    """In this process or under torchrun.

    Args:
        stop: Set when the process was asked to stop.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def stop_requested(self) -> bool:
        """See `Reporter.stop_requested`."""
        return self._stop.is_set()

    def preempted(self) -> bool:
        """Nobody announces it here but by SIGTERM."""
        return False

    def report(self, metrics: Mapping[str, float]) -> None:
        """Nobody to tell."""


class RayReporter:
    """In a Ray Train worker.

    Checkpoints are not handed to Ray: they lie in the run's own store, which is the same under every launcher.

    Args:
        run_folder: Where the driver puts the stop file.
    """

    def __init__(self, run_folder: Path) -> None:
        self._stop_file = run_folder / STOP_FILE

    def stop_requested(self) -> bool:
        """See `Reporter.stop_requested`."""
        return self._stop_file.exists()

    def preempted(self) -> bool:
        """See `Reporter.preempted`."""
        import ray.train

        return ray.train.get_preemption_info() is not None

    def report(self, metrics: Mapping[str, float]) -> None:
        """See `Reporter.report`."""
        import ray.train

        ray.train.report(dict(metrics))


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """The first SIGTERM or Ctrl-C sets the event; a second Ctrl-C interrupts at once.

    Outside the main thread, where Python does not allow handlers, the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    kept = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
