"""The progress bar in the driver's terminal, fed from `metrics.jsonl`: Ray workers cannot draw there."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from adray.training.config import TrainingConfig
from adray.training.tracking import METRICS_FILE

_LOOK_S = 0.3


def row_text(row: dict[str, Any]) -> str:
    """One line of a training row: loss, rows/s, share of the time spent waiting for data."""
    parts = [f"epoch {row['epoch']:.2f}"] if row.get("epoch") is not None else []
    if row.get("train/loss") is not None:
        parts.append(f"loss {row['train/loss']:.4f}")
    if row.get("speed/rows_per_s") is not None:
        parts.append(f"{row['speed/rows_per_s']:,.0f} rows/s")
    if row.get("speed/data_wait_share") is not None:
        parts.append(f"waiting for data {row['speed/data_wait_share']:.0%}")
    return "  ".join(parts)


class _Tail:
    """New rows of a growing file; starts at its present end and survives its replacement."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: TextIO | None = None
        self._inode: int | None = None
        self._rest = ""
        self._step = max((row["step"] for row in self.rows()), default=-1)

    def rows(self) -> list[dict[str, Any]]:
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            return []
        if inode != self._inode:
            self.close()
            self._stream, self._inode, self._rest = self._path.open(encoding="utf-8"), inode, ""
        assert self._stream is not None
        *lines, self._rest = (self._rest + self._stream.read()).split("\n")
        rows = [json.loads(line) for line in lines if line]
        return [row for row in rows if row["step"] > getattr(self, "_step", -1) and "speed/step_seconds" in row]

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


@contextmanager
def progress_shown(run_folder: Path, config: TrainingConfig, *, quiet: bool = False) -> Iterator[None]:
    """Show a run's progress while the block runs: a bar on a terminal, plain lines elsewhere.

    Args:
        run_folder: Where `metrics.jsonl` grows.
        config: Gives the number of epochs or steps.
        quiet: Show nothing.
    """
    if quiet:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(run_folder / METRICS_FILE, config, stop), daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def _follow(path: Path, config: TrainingConfig, stop: threading.Event) -> None:
    tail = _Tail(path)
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=False) as bar:
        task = bar.add_task("training", total=1.0, text="starting")
        while True:
            last = stop.wait(_LOOK_S)
            for row in tail.rows():
                _show(row, config, bar, task, console)
            if last:
                tail.close()
                return


def _show(row: dict[str, Any], config: TrainingConfig, bar: Progress, task: TaskID, console: Console) -> None:
    done = done_share(row, config)
    text = f"step {row['step']}  {row_text(row)}"
    if console.is_terminal:
        bar.update(task, completed=done, text=text)
    else:
        console.print(f"training {done:4.0%}  {text}", highlight=False, soft_wrap=True)


def done_share(row: dict[str, Any], config: TrainingConfig) -> float:
    """Share of the run that a row marks, 0 to 1; with epochs and steps both limited, the nearer end counts."""
    shares = [row["step"] / config.max_steps] if config.max_steps else []
    if config.epochs or not config.max_steps:
        shares.append(row["epoch"] / (config.epochs or 1))
    return min(1.0, max(shares))
