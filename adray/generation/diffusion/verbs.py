"""What the command line calls for configs of kind `diffusion`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adray.checks import Check
from adray.errors import ArtifactError
from adray.generation.diffusion.checks import all_checks
from adray.generation.diffusion.config import DiffusionRunConfig
from adray.generation.diffusion.judgement import judge
from adray.generation.diffusion.pictures import prepare_pictures
from adray.generation.diffusion.start import prepare_start
from adray.generation.diffusion.task import DiffusionTask
from adray.generation.usable import UsableTables
from adray.run import Run
from adray.training.in_run import fit_in_run
from adray.training.loop import EXPORT

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
        judge(run, config, _exported(run.folder), tables.holdout)


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
    artifact = _exported(run.folder)
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


def _exported(folder: Path) -> Path:
    path = folder / EXPORT / "generator"
    if not path.exists():
        raise ArtifactError(f"no artifact in {folder / EXPORT}", "train it first")
    return path
