"""What the command line calls for configs of kind `rfnet`."""

from __future__ import annotations

from collections.abc import Iterable

from adray.checks import Check
from adray.feedback.checks import all_checks
from adray.feedback.config import RFNetRunConfig
from adray.feedback.inputs import modalities
from adray.feedback.judgement import judge
from adray.feedback.tables import AnnotationTables, prepare_annotations
from adray.feedback.task import InspectorTask
from adray.run import Run
from adray.training.checks import exported_artifact
from adray.training.in_run import fit_in_run

CONFIG = RFNetRunConfig
_TABLES = "tables"


def train(config: RFNetRunConfig, run: Run) -> None:
    """Make the tables, train the inspector, export it, and judge it on held-out products.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config or resources.
    """
    tables = _prepare(config, run)
    with run.stage("train"):
        _fit(config, run, tables)
    with run.stage("evaluate"):
        judge(run, config, exported_artifact(run.folder, "rfnet"), tables)


def export(config: RFNetRunConfig, run: Run) -> None:
    """Write the artifact again from the run's last complete checkpoint, without training on.

    Raises:
        ArtifactError: If the run has no checkpoint.
    """
    tables = _prepare(config, run)
    with run.stage("export"):
        _fit(config, run, tables, export_only=True)


def evaluate(config: RFNetRunConfig, run: Run) -> None:
    """Judge the run's artifact on the held-out products of `data`.

    Raises:
        ArtifactError: If the run has no artifact yet.
        DataError: If the source cannot be used.
    """
    artifact = exported_artifact(run.folder, "rfnet")
    tables = _prepare(config, run)
    with run.stage("evaluate"):
        judge(run, config, artifact, tables)


def checks(config: RFNetRunConfig, verb: str) -> Iterable[Check]:
    """Sources, the run's folder, the network, memory, batch arithmetic, resources and versions."""
    return all_checks(config, verb)


def _prepare(config: RFNetRunConfig, run: Run) -> AnnotationTables:
    with_maps = bool({"depth", "saliency"} & set(modalities(config.model)))
    with run.stage("ingest"):
        tables = prepare_annotations(config.data, config.maps, run.folder / _TABLES, with_maps=with_maps)
    run.tables += [tables.train, tables.holdout, *tables.more.values(), tables.quarantine]
    run.log({f"data/rows/{name}": rows for name, rows in tables.rows.items()})
    run.log({"data/quarantined": tables.quarantined})
    return tables


def _fit(config: RFNetRunConfig, run: Run, tables: AnnotationTables, *, export_only: bool = False) -> None:
    task = InspectorTask(
        config.model,
        config.maps,
        config.data,
        tables,
        config.seed,
        config.label_weights,
        config.warm_up,
        config.prompt_loss,
        config.evaluation.batch_rows,
        evaluates=config.training.evaluate_every > 0,
    )
    result = fit_in_run(task, config, run, export_only=export_only)
    run.artifacts += [str(path) for path in sorted(result.export_folder.iterdir())]
