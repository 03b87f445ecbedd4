"""What a verb prints for people: the resolved config before, one screen of results after."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adray.checks import Check
from adray.config import RunConfig, dump_yaml
from adray.report_html import HTML_FILE, format_number
from adray.run import REPORT_FILE, Run

_MOST_METRICS = 24


def print_config(config: RunConfig, verb: str) -> None:
    """Print the resolved config on stderr."""
    console = Console(stderr=True)
    console.rule(f"[bold]{verb}[/] {escape(config.name)}", align="left")
    console.print(dump_yaml(config).rstrip(), style="dim", highlight=False, markup=False)
    console.rule()


def print_report(run: Run, report: dict[str, Any]) -> None:
    """Print the summary of a finished verb on stdout: stages, metrics, artifacts, where to read more."""
    console = Console()
    console.rule(f"[bold green]{report['verb']} {escape(run.name)}", align="left")
    if report["seconds"]:
        console.print(_pairs("stage", "seconds", ((k, f"{v:.1f}") for k, v in report["seconds"].items())))
    metrics = list(report["metrics"].items())
    metrics.sort(key=lambda pair: run.headlines.index(pair[0]) if pair[0] in run.headlines else len(run.headlines))
    if metrics:
        console.print(_pairs("metric", "value", ((k, format_number(v)) for k, v in metrics[:_MOST_METRICS])))
    if len(metrics) > _MOST_METRICS:
        console.print(f"[dim]and {len(metrics) - _MOST_METRICS} more metrics in {REPORT_FILE}")
    for label, paths in (("artifact", report["artifacts"]), ("table", report["tables"])):
        for path in paths:
            console.print(f"{label:<9}{escape(str(path))}", soft_wrap=True, highlight=False)
    for file in (REPORT_FILE, HTML_FILE):
        console.print(f"{'report':<9}{escape(str(run.folder / file))}", soft_wrap=True, highlight=False)


def print_checks(name: str, checks: Iterable[Check]) -> None:
    """Print every check of a run on stdout: what was looked at, what was found, and the cure of what is wrong."""
    table = Table(title=f"pre-flight of {name}", title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("check", no_wrap=True)
    table.add_column("found, or what to do", overflow="fold")
    for check in checks:
        if check.error is None:
            table.add_row("[green]ok[/]", check.name, escape(check.detail))
        else:
            table.add_row("[bold red]wrong[/]", check.name, f"[red]{escape(str(check.error))}[/]")
    Console().print(table)


def _pairs(left: str, right: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(left, style="cyan", no_wrap=True)
    table.add_column(right, justify="right")
    for row in rows:
        table.add_row(*row)
    return table
