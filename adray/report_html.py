"""The run's HTML report: one file that shows everything by itself, with nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import time
from importlib import resources
from pathlib import Path
from typing import Any

from adray.config import RunConfig, dump_yaml
from adray.files import write_text
from adray.run import Run

HTML_FILE = "report.html"
_MIME = {".png": "image/png", ".svg": "image/svg+xml"}
_HEADLINES = 6


def write_html(run: Run, report: dict[str, Any], config: RunConfig) -> Path:
    """Write `report.html` into the run's folder.

    Args:
        run: The finished run, with its plots and tables.
        report: What `report.json` holds.
        config: The resolved config.

    Returns:
        The file's path.
    """
    path = run.folder / HTML_FILE
    write_text(path, render(run, report, config))
    return path


def render(run: Run, report: dict[str, Any], config: RunConfig) -> str:
    """The HTML text of the report."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    template = environment.from_string((resources.files("adray") / "assets" / "report.html.jinja").read_text(encoding="utf-8"))
    metrics: dict[str, float | None] = report["metrics"]
    return template.render(
        report=report,
        kind=config.kind,
        config=dump_yaml(config),
        headlines=list(headline_metrics(metrics, run.headlines).items()),
        groups=group_metrics(metrics),
        stages=stage_shares(report["seconds"]),
        total_seconds=total_seconds(report["seconds"]),
        tables=run.report_tables,
        plots=[(plot.title, data_uri(plot.path)) for plot in run.plots],
        written=time.strftime("%Y-%m-%d %H:%M %Z"),
    )


def headline_metrics(metrics: dict[str, float | None], chosen: list[str]) -> dict[str, float | None]:
    """The metrics shown large: those the run chose, else the first few."""
    names = [name for name in chosen if name in metrics] or list(metrics)[:_HEADLINES]
    return {name: metrics[name] for name in names}


def group_metrics(metrics: dict[str, float | None]) -> dict[str, list[tuple[str, float | None]]]:
    """Metrics by what stands before the first `/`, so that each group is one short table."""
    groups: dict[str, list[tuple[str, float | None]]] = {}
    for name, value in metrics.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group if rest else "", []).append((rest or name, value))
    return groups


def total_seconds(seconds: dict[str, float]) -> float:
    """Seconds of all stages; `a/b` is a part of `a` and counts once."""
    return sum(value for name, value in seconds.items() if "/" not in name or name.partition("/")[0] not in seconds)


def stage_shares(seconds: dict[str, float]) -> list[tuple[str, float, float]]:
    """Name, seconds and share of the longest stage in percent, for the bars."""
    longest = max(seconds.values(), default=0.0) or 1.0
    return [(name, value, 100 * value / longest) for name, value in seconds.items()]


def cell(value: Any) -> str:
    """A table cell or metric as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if value is None or isinstance(value, int | float) else str(value)


def data_uri(path: Path) -> str:
    """A picture's bytes inside an URI, so that the report needs no other file."""
    return f"data:{_MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def format_number(value: float | None) -> str:
    """A number as people read it: whole numbers with thousands, others with four significant digits; a dash for none."""
    if value is None:
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3e}" if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
