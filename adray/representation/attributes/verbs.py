"""What the command line calls for configs of kind `attributes`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adray.artifact import load_artifact
from adray.checks import Check
from adray.data.parquet import open_parquet
from adray.data.sources import open_source
from adray.errors import AdrayError, DataError
from adray.representation.attributes.config import AttributesRunConfig
from adray.representation.attributes.job import Extracted, OnProgress, extract_table
from adray.representation.attributes.records import is_records, read_records
from adray.run import Run

CONFIG = AttributesRunConfig
HEADLINES = ["representation/extract/rows", "representation/extract/quarantined", "representation/extract/rows_per_s"]


def extract(config: AttributesRunConfig, run: Run) -> None:
    """Make the `attributes` table of the creatives; with `resume`, only what is missing of it.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config, models or resources.
    """
    run.headlines += HEADLINES
    with run.stage("extract"), _progress() as on_progress:
        done = extract_table(config, run.folder, on_progress)
    run.tables += [str(done.table), str(done.quarantine)]
    run.log(done.metrics())
    with run.stage("report"):
        _report(config, run, done)


def checks(config: AttributesRunConfig, verb: str) -> Iterable[Check]:
    """Source, products, OCR models, gallery and artifacts."""
    data = config.data
    yield _check("creatives readable", data.creatives, lambda: _creatives(data.creatives))
    if data.products is not None:
        yield _check("products readable", data.products, lambda: f"{open_parquet(str(data.products)).rows} rows")
    if config.fields.text_boxes == "rules":
        yield _check("OCR models", "rapidocr", _models)
    gallery = config.logos.gallery
    if gallery is not None:
        yield _check("logo gallery", gallery, lambda: _gallery(gallery))
    if config.heads is not None:
        artifact = config.heads.artifact
        yield _check("heads", artifact, lambda: f"content {load_artifact(artifact, 'attribute_heads').content_hash[:12]}")


def _creatives(path: str) -> str:
    if is_records(path):
        return f"{path}: {len(read_records(path))} records"
    source = open_source(path)
    names = set(source.schema.names)
    for needed in ("creative_id", "sku_id"):
        if needed not in names:
            raise DataError(f"{path} has no column {needed!r}", "give a table of kind `creatives`")
    if not names & {"image", "copy"}:
        raise DataError(f"{path} has neither column 'image' nor 'copy'", "there is nothing to read")
    return f"{path}: {source.kind}, {len(source.parts)} parts, {source.size / 2**20:.1f} MiB"


def _models() -> str:
    from adray.representation.attributes.ocr import model_files

    return ", ".join(path.name for path in model_files().values())


def _gallery(folder: str) -> str:
    from adray.representation.attributes.logos import gallery_pictures

    paths = gallery_pictures(Path(folder))
    return f"{len(paths)} pictures of {len({path.parent for path in paths})} brands"


def _check(name: str, subject: str, find: Callable[[], str]) -> Check:
    try:
        return Check(name, find())
    except AdrayError as error:
        return Check(name, subject, error)


def _report(config: AttributesRunConfig, run: Run, done: Extracted) -> None:
    from adray.representation.attributes.report import contact_sheet, distribution, distribution_rows

    counts, confidences = distribution(str(done.table))
    note = "Share: of creatives, also where one has several values. Confidence: the field's mean over known values."
    rows = distribution_rows(counts, confidences, done.kept)
    run.add_table("What was read", ("field", "value", "creatives", "share", "confidence"), rows, note)
    for field in ("background_colour", "promotion", "gender", "age_band", "life_stage", "scene", "style"):
        known = 1.0 - counts[field]["unknown"] / done.kept
        run.log({f"representation/extract/known/{field}": known})
    speeds = [(stage, f"{s:.2f}", f"{done.new / s:.1f}" if s > 0 else "-") for stage, s in done.stage_seconds.items()]
    if done.new:
        run.add_table(
            "Throughput of one worker", ("stage", "seconds", "creatives/s"), speeds, f"{done.new} creatives, {config.job.workers} workers"
        )
        run.seconds.update({f"extract/{stage}": seconds for stage, seconds in done.stage_seconds.items()})
    pairs = [("extractor", done.provenance.extractor), ("prompt", done.provenance.prompt or "-")]
    run.add_table("Provenance of every row", ("field", "value"), pairs)
    if config.contact_sheet:
        sheet = contact_sheet(done.creatives, str(done.table), config.contact_sheet, run.folder / "plots" / "attributes.png")
        if sheet is not None:
            run.add_plot("Creatives with what was read off them", sheet)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on a terminal; elsewhere a line per work item."""
    console = Console(file=sys.stderr)
    columns = (TextColumn("extracting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("extracting", total=None, text="")

        def on_progress(done: int, total: int | None, speeds: dict[str, float]) -> None:
            text = " ".join(f"{stage} {speed:,.1f}/s" for stage, speed in speeds.items())
            bar.update(task, completed=done, total=total, text=f"{speeds['all']:,.1f}/s")
            if not console.is_terminal:
                console.print(f"extracted {done:,} of {total or '?'} creatives; {text}", highlight=False, soft_wrap=True)

        yield on_progress
