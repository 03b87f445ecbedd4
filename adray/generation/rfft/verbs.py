"""What the command line calls for configs of kind `rfft`."""

from __future__ import annotations

from collections.abc import Iterable

from adray.checks import Check
from adray.generation.rfft.checks import all_checks
from adray.generation.rfft.config import RfftRunConfig
from adray.generation.rfft.judgement import judge
from adray.generation.rfft.products import prepare_products
from adray.generation.rfft.task import FeedbackTask
from adray.generation.usable import UsableTables
from adray.run import Run
from adray.training.checks import exported_artifact
from adray.training.in_run import fit_in_run

CONFIG = RfftRunConfig


def train(config: RfftRunConfig, run: Run) -> None:
    """Fine-tune the ControlNet, export the generator with it, and compare pictures before and after.

    Raises:
        AdrayError: Whatever is the user's to mend in data, artifacts, config or resources.
    """
    tables = _prepare(config, run)
    with run.stage("train"):
        result = fit_in_run(FeedbackTask(config, tables), config, run)
    run.artifacts += [str(path) for path in sorted(result.export_folder.iterdir())]
    with run.stage("evaluate"):
        judge(run, config, tables, exported_artifact(run.folder, "generator"))


def export(config: RfftRunConfig, run: Run) -> None:
    """Write the artifact again from the run's last complete checkpoint, without training on.

    Raises:
        ArtifactError: If the run has no checkpoint.
    """
    tables = _prepare(config, run)
    with run.stage("export"):
        result = fit_in_run(FeedbackTask(config, tables), config, run, export_only=True)
    run.artifacts += [str(path) for path in sorted(result.export_folder.iterdir())]


def evaluate(config: RfftRunConfig, run: Run) -> None:
    """Compare pictures before and after once more, for example with other products or more of them.

    Raises:
        ArtifactError: If the run has no artifact yet.
    """
    tuned = exported_artifact(run.folder, "generator")
    tables = _prepare(config, run)
    with run.stage("evaluate"):
        judge(run, config, tables, tuned)


def checks(config: RfftRunConfig, verb: str) -> Iterable[Check]:
    """Generator, inspector, products, memory, batch arithmetic and resources."""
    return all_checks(config, verb)


def _prepare(config: RfftRunConfig, run: Run) -> UsableTables:
    with run.stage("ingest"):
        tables = prepare_products(config.data, config.placement, run.folder / "tables")
    tables.report(run)
    return tables
