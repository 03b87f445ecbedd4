"""What the command line calls for configs of kind `embedding`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adray.artifact import load_artifact
from adray.checks import Check
from adray.data.adapters import open_inputs
from adray.data.sources import Source, open_source
from adray.data.storage import exists
from adray.errors import AdrayError, ArtifactError, DataError
from adray.representation.embedding.config import CreativesConfig, EmbeddingRunConfig
from adray.representation.embedding.creatives import adapted, creatives_table
from adray.representation.embedding.job import EMBEDDINGS, Embedded, OnProgress, embed_table, prepare_encoder
from adray.representation.encoders.factory import KIND
from adray.run import Run, run_folder
from adray.training.tracking import Trackers, check_tracking, open_trackers

CONFIG = EmbeddingRunConfig
HEADLINES = ["representation/embed/rows", "representation/embed/quarantined", "representation/embed/rows_per_s"]


def embed(config: EmbeddingRunConfig, run: Run) -> None:
    """Make the `embeddings` table of the creatives; with `resume`, only what is missing of it.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config, encoder or resources.
    """
    run.headlines += HEADLINES
    with run.stage("encoder"):
        encoder = prepare_encoder(config, run.folder)
    trackers = open_trackers(config.tracking, run.folder, config.name, config.model_dump(mode="json"), 0)
    failed = True
    try:
        with run.stage("creatives"):
            creatives = creatives_table(config.data, run.folder)
        with run.stage("embed"), _progress(open_source(creatives), trackers) as on_progress:
            done = embed_table(config, creatives, run.folder, encoder, on_progress)
        _report(run, done)
        trackers.metrics(done.kept + done.lost, done.metrics())
        failed = False
    finally:
        trackers.close(failed)
    run.artifacts.append(str(encoder[0]))


def evaluate(config: EmbeddingRunConfig, run: Run) -> None:
    """Judge the run's vectors: the quality gate.

    Raises:
        DataError: If the run has no embeddings yet, or too few creatives can be judged.
    """
    from adray.representation.quality.judgement import judge

    judge(config, run)


def checks(config: EmbeddingRunConfig, verb: str) -> Iterable[Check]:
    """Source, encoder, tracker, and for `evaluate` the vectors and the version to compare with."""
    yield _source_check(config.data)
    if config.artifact is not None:
        yield _artifact_check(config.artifact)
    yield _check("tracking", config.tracking.wandb, lambda: check_tracking(config.tracking))
    if verb == "evaluate":
        table = run_folder(config) / EMBEDDINGS
        missing = DataError(f"run {config.name!r} has no vectors in {table}", "`launch.py embed` this config first")
        yield Check("vectors", str(table), None if table.is_dir() and any(table.glob("*.parquet")) else missing)
    for name in ("products", "attributes"):
        path = getattr(config.data, name)
        if path is not None:
            yield _path_check(f"data.{name}", path)
    for name in ("previous", "index"):
        path = getattr(config.evaluation, name)
        if path is not None:
            yield _path_check(f"evaluation.{name}", path)


def _report(run: Run, done: Embedded) -> None:
    run.log(done.metrics())
    run.seconds.update({f"embed/{stage}": seconds for stage, seconds in done.stage_seconds.items()})
    run.tables += [str(done.table), str(done.quarantine)]
    run.add_table("Provenance of every vector", ["field", "value"], list(done.provenance.as_dict().items()))


@contextmanager
def _progress(source: Source, trackers: Trackers) -> Iterator[OnProgress]:
    """A bar on a terminal and a row in `metrics.jsonl` per finished item."""
    total = sum(group.rows for part in source.parts for group in part.groups) or None
    console = Console(file=sys.stderr)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("embedding", total=total, text="")

        def on_progress(rows: int, figures: dict[str, float]) -> None:
            text = f"{figures['representation/embed/rows_per_s']:,.1f} rows/s"
            bar.update(task, completed=rows, text=text)
            if not console.is_terminal:
                console.print(f"embedding {rows:,} of {total or '?'} rows  {text}", highlight=False, soft_wrap=True)
            trackers.metrics(rows, figures)

        yield on_progress


def _source_check(data: CreativesConfig) -> Check:
    path = data.creatives
    try:
        source = open_source(path) if data.adapter == "standard" else open_inputs(adapted(data)).impressions.source
    except AdrayError as error:
        return Check("creatives readable", path, error)
    # An adapter has looked for the columns that it makes the table of.
    names = set(source.schema.names) if data.adapter == "standard" else {"creative_id", "sku_id", "copy"}
    for needed in ("creative_id", "sku_id"):
        if needed not in names:
            return Check("creatives readable", path, DataError(f"{path} has no column {needed!r}", "give a table of kind `creatives`"))
    if not names & {"image", "copy"}:
        return Check("creatives readable", path, DataError(f"{path} has neither column 'image' nor 'copy'", "there is nothing to embed"))
    return Check("creatives readable", f"{path}: {source.kind}, {len(source.parts)} parts, {source.size / 2**20:.1f} MiB")


def _artifact_check(folder: str) -> Check:
    try:
        artifact = load_artifact(folder, KIND)
    except ArtifactError as error:
        return Check("encoder", folder, error)
    return Check("encoder", f"{folder}, content {artifact.content_hash[:12]}")


def _path_check(name: str, path: str) -> Check:
    try:
        found = exists(path)
    except AdrayError as error:
        return Check(name, path, error)
    return Check(name, path, None if found else DataError(f"field {name!r}: {path} does not exist", "check the path"))


def _check(name: str, detail: str, what: Callable[[], None]) -> Check:
    try:
        what()
    except AdrayError as error:
        return Check(name, detail, error)
    return Check(name, detail)
