"""Reporting a study: its tables and plots, its gains, and every single value."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from adray.run import Run
from adray.study_config import StudyConfig
from adray.study_curves import draw_curves
from adray.study_runs import Outcome
from adray.study_table import Cells, Row, cells_frame, compare, draw, gain_over_best, to_frame


def write(config: StudyConfig, run: Run, cells: Cells, outcomes: Sequence[Outcome]) -> None:
    """Write `study.parquet` and `cells.parquet` (and CSV), a table and a plot per metric, and the gains.

    Args:
        config: The study.
        run: Its run.
        cells: (variant, seed) -> metric -> value, of what finished.
        outcomes: Of all runs of variants.
    """
    variants, metrics = list(config.variants), config.compared()
    rows = compare(
        cells,
        variants,
        metrics,
        reference=config.reference,
        lower_is_better=config.lower_is_better,
        confidence=config.confidence,
    )
    for name, frame in (("study", to_frame(rows)), ("cells", cells_frame(cells))):
        frame.to_parquet(run.folder / f"{name}.parquet", index=False)
        frame.to_csv(run.folder / f"{name}.csv", index=False)
        run.tables.append(str(run.folder / f"{name}.parquet"))
    for number, metric in enumerate(metrics):
        own = [row for row in rows if row.metric == metric]
        _report(config, run, own)
        file = run.folder / f"study-{number}.png"
        draw(file, own, cells, reference=config.reference, confidence=config.confidence)
        run.add_plot(metric, file)
    for number, (title, curves) in enumerate(config.curves.items()):
        file = run.folder / f"curves-{number}.png"
        draw_curves(file, rows, curves.x, curves.y, curves.lines)
        run.add_plot(title, file)
    for name, gain in config.gains.items():
        found = gain_over_best(
            cells, gain.metric, gain.variant, gain.over, lower_is_better=gain.metric in config.lower_is_better, confidence=config.confidence
        )
        run.log({name: found.mean, f"{name}_lower": found.low, f"{name}_upper": found.high})
        run.headlines += [name, f"{name}_lower", f"{name}_upper"]
    run.headlines += [f"study/{variant}/{config.metrics[0]}" for variant in variants]
    run.log({"study/runs": len(outcomes), "study/runs_finished": len(cells)})
    seconds = [sum(o.report["seconds"].values()) for o in outcomes if o.report]
    if seconds:
        run.log({"study/seconds_per_run": statistics.fmean(seconds)})


def _report(config: StudyConfig, run: Run, rows: Sequence[Row]) -> None:
    level = f"{config.confidence:.0%} interval"
    columns = ["variant", "seeds", "mean", level]
    if config.reference is not None:
        columns += [f"minus {config.reference}", level, "wins"]
    table = []
    for row in rows:
        line: list[Any] = [row.variant, row.seeds, _number(row.mean), _between(row.low, row.high)]
        run.log({f"study/{row.variant}/{row.metric}": row.mean})
        if config.reference is not None and row.variant == config.reference:
            line += ["reference", "", ""]
        elif config.reference is not None:
            line += [_number(row.difference), _between(row.difference_low, row.difference_high), f"{row.wins} of {row.pairs}"]
            run.log({f"study/{row.variant}/{row.metric}/difference": row.difference, f"study/{row.variant}/{row.metric}/wins": row.wins})
        table.append(line)
    direction = "less is better" if rows[0].metric in config.lower_is_better else "more is better"
    run.add_table(rows[0].metric, columns, table, note=f"{direction}; t-intervals over seeds, differences paired within a seed")


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"


def _between(low: float, high: float) -> str:
    return "-" if low != low else f"{low:.4f} to {high:.4f}"
