"""How far a piecework job is: a bar on a terminal, a line per finished item elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

OnProgress = Callable[[int, int | None, str], None]
"""Told rows done, all rows (None where not known) and what else to say, e.g. a speed."""


@contextmanager
def show_progress(doing: str, unit: str) -> Iterator[OnProgress]:
    """Show the progress of a job on stderr.

    Args:
        doing: What is done, e.g. `generating`.
        unit: What rows are, e.g. `requests`.

    Yields:
        What the job calls after each item.
    """
    console = Console(file=sys.stderr)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None, text="")

        def on_progress(done: int, total: int | None, text: str) -> None:
            bar.update(task, completed=done, total=total, text=text)
            if not console.is_terminal:
                console.print(f"{doing} {done:,} of {total or '?'} {unit}; {text}", highlight=False, soft_wrap=True)

        yield on_progress
