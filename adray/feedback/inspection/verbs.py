"""What the command line calls for configs of kind `inspection`."""

from __future__ import annotations

from collections.abc import Iterator

from adray.checks import Check
from adray.data.labels import LABELS
from adray.data.piecework.bar import shown
from adray.errors import AdrayError
from adray.feedback.artifact import load_inspector
from adray.feedback.inspection.config import InspectionRunConfig
from adray.feedback.inspection.job import Inspected, inspect_table, open_pictures
from adray.feedback.inspection.report import compared_metrics, contact_sheet
from adray.run import Run

CONFIG = InspectionRunConfig
COMPARED_HEADLINES = ["feedback/f1", "feedback/ap", "feedback/precision", "feedback/recall", "feedback/inspect/confirmed_share"]
HEADLINES = ["feedback/inspect/rows", "feedback/inspect/accepted_share", "feedback/inspect/quarantined", "feedback/inspect/rows_per_s"]


def inspect(config: InspectionRunConfig, run: Run) -> None:
    """Write a verdict on every picture; with `resume`, only those that are missing.

    Raises:
        AdrayError: Whatever is the user's to mend in data, artifact or resources.
    """
    run.headlines += HEADLINES
    with run.stage("inspect"), shown("inspecting") as on_progress:
        found = inspect_table(config, run.folder, on_progress=on_progress)
    run.log(found.metrics())
    run.seconds.update({f"inspect/{stage}": seconds for stage, seconds in found.done.stage_seconds.items()})
    run.tables += [str(found.verdicts), str(found.quarantine)]
    with run.stage("report"):
        _report(config, run, found)


def _report(config: InspectionRunConfig, run: Run, found: Inspected) -> None:
    counts = found.done.counts
    rows = [(label, counts.get(label, 0), counts.get(label, 0) / max(found.done.kept, 1)) for label in LABELS]
    run.add_table("Verdicts", ("label", "pictures", "share"), rows, "A picture is accepted when `available` is its most probable label.")
    against = compared_metrics(config, found)
    run.log(against)
    run.headlines += [name for name in COMPARED_HEADLINES if name in against]
    sheet = contact_sheet(config, found, run.folder / "plots" / "verdicts.png") if config.contact_sheet else None
    if sheet is not None:
        run.add_plot("Accepted pictures, then refused ones", sheet)


def checks(config: InspectionRunConfig, verb: str) -> Iterator[Check]:
    """Whether the inspector loads and the table has what it reads."""
    try:
        inspector = load_inspector(config.artifact)
    except AdrayError as error:
        yield Check("inspector", config.artifact, error)
        return
    yield Check("inspector", f"{config.artifact}, content {inspector.content_hash[:12]}")
    try:
        source, table = open_pictures(config.data.pictures, config.data.id, inspector)
    except AdrayError as error:
        yield Check("pictures readable", config.data.pictures, error)
        return
    yield Check("pictures readable", f"{source.path}: {len(source.parts)} parts, {source.size / 2**20:.1f} MiB, named by {table.key}")
