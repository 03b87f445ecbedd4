"""Showing how far a long job is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from adray.data.piecework.drive import Progress


@contextmanager
def shown(doing: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; elsewhere a line per work item.

    Args:
        doing: What the job does, e.g. `inspecting`.
    """
    console = Console(file=sys.stderr)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None, text="")

        def on_progress(at: Progress) -> None:
            text = f"{at.new / max(at.seconds, 1e-9):,.1f} rows/s"
            bar.update(task, completed=at.rows, total=at.total, text=text)
            if not console.is_terminal:
                console.print(f"{doing} {at.rows:,} of {at.total or '?'} rows  {text}", highlight=False, soft_wrap=True)

        yield on_progress
