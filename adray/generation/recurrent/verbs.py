"""What the command line calls for configs of kind `generation`."""

from __future__ import annotations

from collections.abc import Iterable

from adray.checks import Check
from adray.data.piecework.bar import shown
from adray.generation.recurrent.checks import all_checks
from adray.generation.recurrent.config import GenerationRunConfig
from adray.generation.recurrent.job import generate_pictures
from adray.generation.recurrent.report import report
from adray.run import Run

CONFIG = GenerationRunConfig


def generate(config: GenerationRunConfig, run: Run) -> None:
    """Make, inspect and remake pictures; with `resume`, only what is missing.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config, models or resources.
    """
    attempts, judged = config.most_attempts(), config.inspector is not None
    run.headlines += [f"generation/{name}" for name in ("requests", "accepted", "failed", "quarantined", "pictures_per_s")]
    if judged:
        after = [f"generation/available_after_{k}" for k in sorted({1, attempts})]
        run.headlines += [*after, "generation/mean_attempts", "generation/seconds_per_accepted"]
    with run.stage("generate"), shown("generating") as on_progress:
        done = generate_pictures(config, run.folder, on_progress)
    run.tables += [*(str(parts.output) for parts in done.outputs.parts.values()), str(done.outputs.shared.quarantine)]
    with run.stage("report"):
        report(run, done, attempts, judged=judged, shown=config.contact_sheet)


def checks(config: GenerationRunConfig, verb: str) -> Iterable[Check]:
    """Requests, their columns, generator, sides, inspector, prompts, memory and workers."""
    return all_checks(config)
