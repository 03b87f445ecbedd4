"""What the command line calls for configs of kind `diffusion`."""

from __future__ import annotations

from collections.abc import Iterable

from adray.checks import Check
from adray.generation.diffusion.checks import all_checks
from adray.generation.diffusion.config import DiffusionRunConfig
from adray.generation.diffusion.judgement import judge
from adray.generation.diffusion.pictures import prepare_pictures
from adray.generation.diffusion.start import prepare_start
from adray.generation.diffusion.task import DiffusionTask
from adray.generation.usable import UsableTables
from adray.run import Run
from adray.training.checks import exported_artifact
from adray.training.in_run import fit_in_run

CONFIG = DiffusionRunConfig


def train(config: DiffusionRunConfig, run: Run) -> None:
    """Build what training starts from, train the generator, export it, and sample pictures of held-out products.

    Raises:
        AdrayError: Whatever is the user's to mend in data, weights, config or resources.
    """
    tables = _prepare(config, run)
    with run.stage("build"):
        start = prepare_start(config, run.folder, tables.train)
    with run.stage("train"):
        result = fit_in_run(DiffusionTask(config, start, tables), config, run)
    run.artifacts += [str(path) for path in sorted(result.export_folder.iterdir())]
    with run.stage("evaluate"):
        judge(run, config, exported_artifact(run.folder, "generator"), tables.holdout)


def export(config: DiffusionRunConfig, run: Run) -> None:
    """Write the artifact again from the run's last complete checkpoint, without training on.

    Raises:
        ArtifactError: If the run has no checkpoint.
    """
    tables = _prepare(config, run)
    with run.stage("build"):
        start = prepare_start(config, run.folder, tables.train)
    with run.stage("export"):
        result = fit_in_run(DiffusionTask(config, start, tables), config, run, export_only=True)
    run.artifacts += [str(path) for path in sorted(result.export_folder.iterdir())]


def evaluate(config: DiffusionRunConfig, run: Run) -> None:
    """Sample pictures once more, for example with other prompts or another sampler.

    Raises:
        ArtifactError: If the run has no artifact yet.
    """
    artifact = exported_artifact(run.folder, "generator")
    tables = _prepare(config, run)
    with run.stage("evaluate"):
        judge(run, config, artifact, tables.holdout)


def checks(config: DiffusionRunConfig, verb: str) -> Iterable[Check]:
    """Pictures, the generator, memory, batch arithmetic and resources."""
    return all_checks(config, verb)


def _prepare(config: DiffusionRunConfig, run: Run) -> UsableTables:
    with run.stage("ingest"):
        tables = prepare_pictures(config.data, config.caption, run.folder / "tables")
    tables.report(run)
    return tables
