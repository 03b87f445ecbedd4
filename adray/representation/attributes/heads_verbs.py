"""What the command line calls for configs of kind `attribute_heads`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adray.checks import Check
from adray.data.parquet import check_columns, open_parquet
from adray.errors import AdrayError
from adray.representation.attributes.heads_config import HeadsRunConfig
from adray.representation.attributes.heads_data import prepare
from adray.representation.attributes.heads_model import AttributeHeads, calibrate, collect
from adray.representation.attributes.heads_task import HeadsTask
from adray.run import Run
from adray.training.checks import training_checks
from adray.training.in_run import fit_in_run

CONFIG = HeadsRunConfig
_ROWS = "rows"


def train(config: HeadsRunConfig, run: Run) -> None:
    """Train the heads, calibrate them, and judge them on SKUs that neither of the two saw.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config or resources.
    """
    with run.stage("prepare"):
        prepared = prepare(config.data, config.heads, run.folder / _ROWS)
    run.log({f"data/rows/{name}": count for name, count in prepared.rows.items()})
    task = HeadsTask(prepared.folder, max(config.training.world_sizes()), config.seed)
    with run.stage("train"):
        result = fit_in_run(task, config, run)
    with run.stage("calibrate"):
        _judge(config, run, task, AttributeHeads.load(result.export_folder / "heads"))


def checks(config: HeadsRunConfig, verb: str) -> Iterable[Check]:
    """Tables and training."""
    for name, path, columns in (
        ("embeddings readable", config.data.embeddings, ["creative_id", "encoder", "vector"]),
        ("labels readable", config.data.labels, ["creative_id"]),
    ):
        try:
            table = open_parquet(path)
            check_columns(table, columns)
            yield Check(name, f"{path}, {table.rows} rows")
        except AdrayError as error:
            yield Check(name, path, error)
    lanes = max(config.training.world_sizes())
    yield from training_checks(config.training, lanes=lanes, run_folder=Path(config.runs_dir) / config.name)


def _judge(config: HeadsRunConfig, run: Run, task: HeadsTask, heads: AttributeHeads) -> None:
    for head, (logits, target) in collect(heads, task.calibration_batches()).items():
        heads.calibration[head] = calibrate(logits, target, config.target_precision)
    rows: list[tuple[object, ...]] = []
    metrics: dict[str, float] = {}
    for head, (logits, target) in collect(heads, task.eval_batches() or []).items():
        if not len(target):
            continue
        calibration = heads.calibration[head]
        scaled = logits / calibration.temperature
        probabilities = np.exp(scaled - scaled.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        told = probabilities.max(1) >= calibration.threshold
        right = probabilities.argmax(1) == target
        precision = float(right[told].mean()) if told.any() else float("nan")
        common = np.bincount(target).max() / len(target)
        metrics |= {f"representation/heads/{head}/told": float(told.mean()), f"representation/heads/{head}/precision": precision}
        metrics[f"representation/heads/{head}/most_common"] = float(common)
        shown = (f"{right.mean():.3f}", f"{common:.3f}", f"{told.mean():.3f}", f"{precision:.3f}")
        rows.append((head, len(heads.classes[head]), len(target), *shown, f"{calibration.temperature:.2f}", f"{calibration.threshold:.2f}"))
    run.log(metrics)
    columns = ("head", "values", "test rows", "accuracy", "most common value", "told", "precision of told", "temperature", "threshold")
    run.add_table("Heads on SKUs that were not trained on", columns, rows)
    heads.save(run.folder / "heads", metrics, {"run": config.name, "embeddings": config.data.embeddings, "labels": config.data.labels})
    run.artifacts.append(str(run.folder / "heads"))
