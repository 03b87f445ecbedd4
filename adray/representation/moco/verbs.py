"""What the command line calls for configs of kind `moco`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adray.checks import Check
from adray.representation.encoders.factory import load_encoder
from adray.representation.moco.checks import losses, moco_checks
from adray.representation.moco.judge import correct_rows, gain_metrics
from adray.representation.moco.plots import accuracy_over_epochs, learning_curve, read_rows
from adray.representation.moco.prepare import Prepared, prepare
from adray.representation.moco.run_config import MocoRunConfig
from adray.run import Run
from adray.training.distributed import seed_everything
from adray.training.fit import TrainResult
from adray.training.in_run import fit_in_run
from adray.training.loop import EXPORT

CONFIG = MocoRunConfig
HEADLINES = [
    "representation/knn_gain",
    "representation/knn_accuracy",
    "representation/knn_random_init",
    "representation/knn_untuned",
    "train/loss",
    "speed/rows_per_s",
]
"""Metrics that a report shows first, as far as the run has them."""


def train(config: MocoRunConfig, run: Run) -> None:
    """Decode the pictures, judge the encoder as it is, train, export, and judge again.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config or resources.
    """
    prepared = prepare(config, run)
    with run.stage("baseline"):
        before = _before(config, prepared)
    print(f"loss: {losses(config)}", file=sys.stderr)
    with run.stage("train"):
        result = fit_in_run(prepared.task, config, run)
    _report(config, run, prepared, result, before)


def export(config: MocoRunConfig, run: Run) -> None:
    """Write the artifact again from the run's last complete checkpoint, without training on; for a run that was stopped early."""
    prepared = prepare(config, run)
    with run.stage("baseline"):
        before = _before(config, prepared)
    with run.stage("export"):
        result = fit_in_run(prepared.task, config, run, export_only=True)
    _report(config, run, prepared, result, before)


def evaluate(config: MocoRunConfig, run: Run) -> None:
    """Judge the run's artifact on `data.bank` and `data.test`, beside the encoder it started from."""
    prepared = prepare(config, run)
    run.headlines += HEADLINES
    with run.stage("evaluate"):
        before = _before(config, prepared)
        batches = prepared.judged_with_encoder()
        assert before is not None and batches is not None
        after = correct_rows(load_encoder(run.folder / EXPORT / "encoder"), batches, config.evaluation)
        run.log(gain_metrics(after, before, prepared.baseline, config.evaluation, config.seed))


def checks(config: MocoRunConfig, verb: str) -> Iterable[Check]:
    """Tables, losses, memory, batch arithmetic, resources and versions."""
    return moco_checks(config, verb)


def _before(config: MocoRunConfig, prepared: Prepared) -> np.ndarray | None:
    """Which test rows are right before training, with the very weights that training starts from."""
    batches = prepared.task.eval_batches()
    if batches is None:
        return None
    seed_everything(config.seed)
    module = prepared.task.build_module().eval()
    return correct_rows(module.encoder, batches, config.evaluation)


def _report(config: MocoRunConfig, run: Run, prepared: Prepared, result: TrainResult, before: np.ndarray | None) -> None:
    run.headlines += HEADLINES
    run.artifacts.append(str(result.export_folder / "encoder"))
    # Of what was exported, not of what was in memory.
    batches = prepared.judged_with_encoder()
    if before is not None and batches is not None:
        with run.stage("evaluate"):
            after = correct_rows(load_encoder(result.export_folder / "encoder"), batches, config.evaluation)
        run.log(gain_metrics(after, before, prepared.baseline, config.evaluation, config.seed))
    per_epoch = max(1, round(result.steps / max(result.epochs, 1))) if result.epochs else result.steps
    metrics_file = run.folder / "metrics.jsonl"
    start = None if before is None else float(before.mean())
    curve = learning_curve(
        metrics_file,
        Path(run.folder / "plots" / "learning.png"),
        steps_per_epoch=per_epoch,
        before=start,
        baseline=prepared.baseline.replace("_", " ").removeprefix("knn "),
    )
    run.add_plot("Learning without labels", curve)
    points = accuracy_over_epochs(read_rows(metrics_file), per_epoch)
    if start is not None:
        points = [(0.0, start), *points]
    run.add_table("kNN accuracy over epochs", ["epoch", "accuracy"], [(round(e, 2), round(a, 4)) for e, a in points])
