"""Training inside a run: the one way in which every kind's verbs call `fit` and report it."""

from __future__ import annotations

from typing import Protocol

from adray.errors import ArtifactError
from adray.run import Run
from adray.training.checkpoint import list_checkpoints
from adray.training.config import TrainingConfig
from adray.training.fit import TrainResult, fit
from adray.training.loop import CHECKPOINTS
from adray.training.module import TrainTask


class TrainingRunConfig(Protocol):
    """What the config of a run that trains holds, whatever its kind."""

    name: str
    seed: int
    resume: bool
    training: TrainingConfig

    def model_dump(self, *, mode: str) -> dict[str, object]:
        """The whole config as plain values."""


def fit_in_run(task: TrainTask, config: TrainingRunConfig, run: Run, *, export_only: bool = False) -> TrainResult:
    """Train in a run's folder and add metrics, steps and times to its report.

    Args:
        task: What to train.
        config: The run's config, which the tracker records.
        run: The run.
        export_only: Train no further: evaluate and export the last complete checkpoint, in this process.

    Raises:
        ArtifactError: If a run to be exported has no checkpoint.
        AdrayError: As `fit`.
    """
    training, resume = config.training, config.resume
    if export_only:
        saved = list_checkpoints(run.folder / CHECKPOINTS)
        if not saved:
            raise ArtifactError(f"run {config.name!r} has no checkpoint in {run.folder / CHECKPOINTS}", "train it first")
        # A run that has all its steps behind it has nothing left but to be exported.
        last = max(one.step for one in saved)
        training, resume = training.model_copy(update={"max_steps": last, "epochs": None, "workers": 0}), True
    result = fit(
        task,
        training,
        run_folder=run.folder,
        run_name=config.name,
        seed=config.seed,
        resume=resume,
        record=config.model_dump(mode="json"),
    )
    run.log(result.metrics)
    run.log({"train/steps": result.steps, "train/epochs": result.epochs, "train/world_size": result.world_size})
    run.seconds.update({f"train/{name}": seconds for name, seconds in result.seconds.items()})
    return result
