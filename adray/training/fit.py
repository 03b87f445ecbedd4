"""`fit`: train a task, wherever the config says: in this process, in Ray workers, or under torchrun."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adray.errors import AdrayError, ConfigError, TrainingError
from adray.training.checkpoint import list_checkpoints
from adray.training.config import TrainingConfig
from adray.training.distributed import launched_by_torchrun
from adray.training.error_log import ERROR_LOG, log_error
from adray.training.loop import CHECKPOINTS, DEEPSPEED_FILE, EXPORT, TrainJob, WorkerResult, train_worker
from adray.training.module import TrainTask
from adray.training.progress import progress_shown
from adray.training.reporter import STOP_FILE, LocalReporter, TrainingStoppedError, stop_on_signals
from adray.training.tracking import check_tracking

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    Attributes:
        metrics: The last training row (`train/...`, `speed/...`) and the module's evaluation.
        export_folder: What the module exported.
        steps: Optimizer steps.
        epochs: Whole epochs.
        world_size: Processes at the end.
        seconds: Wall time by stage (`setup`, `first_batch`, `train`, `checkpoint`, `evaluate`, `export`).
    """

    metrics: dict[str, float]
    export_folder: Path
    steps: int
    epochs: int
    world_size: int
    seconds: dict[str, float]


def fit(
    task: TrainTask,
    config: TrainingConfig,
    *,
    run_folder: str | Path,
    run_name: str,
    seed: int,
    resume: bool = False,
    record: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train, evaluate and export.

    Lost workers are replaced up to `max_failures` times and the run goes on from its last checkpoint, as if nothing
    had happened. Errors that would only happen again (a bad config, bad data, a loss that is not finite) are not retried.

    Args:
        task: Builds the module and its batches in every worker; picklable when Ray workers are used.
        config: The training section.
        run_folder: The run's folder: `metrics.jsonl`, `checkpoints/`, `deepspeed.json`, `export/`, `error.log`.
        run_name: Its name.
        seed: Seed of weights and training.
        resume: Go on from the run's last complete checkpoint.
        record: The run's whole config, for the tracker; default: the training section.
        quiet: No progress bar.

    Raises:
        ConfigError: If there are checkpoints and `resume` is false, or the config cannot work.
        ResourceError: If the workers do not fit on the cluster.
        TrainingStoppedError: If SIGTERM or Ctrl-C stopped it; it can be resumed.
        TrainingError: If training failed; one line here, the whole trace in `error.log`.
    """
    folder = Path(run_folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    check_tracking(config.tracking)
    if not resume and list_checkpoints(folder / CHECKPOINTS):
        raise ConfigError(f"run folder {folder} already holds checkpoints", "set resume=true, or choose another name")
    for stale in (STOP_FILE, ERROR_LOG):
        (folder / stale).unlink(missing_ok=True)
    job = TrainJob(task, config, str(folder), run_name, seed, dict(record or {"training": config.model_dump(mode="json")}))
    _log.info("DeepSpeed's settings are written to %s", folder / DEEPSPEED_FILE)
    try:
        result = _run(job, quiet)
    except AdrayError:
        log_error(folder)
        raise
    except Exception as error:
        log_error(folder)
        text = " ".join(str(error).split())[:300]
        raise TrainingError(f"{type(error).__name__}: {text}", f"the whole trace is in {folder / ERROR_LOG}") from error
    if result.stopped:
        raise TrainingStoppedError(
            f"training was stopped at step {result.steps}; its state is in {folder / CHECKPOINTS}", "go on with --set resume=true"
        )
    return TrainResult(result.metrics, folder / EXPORT, result.steps, result.epochs, result.world_size, result.seconds)


def _run(job: TrainJob, quiet: bool) -> WorkerResult:
    in_this_process = launched_by_torchrun() or job.config.workers == 0
    if not in_this_process:
        from adray.ray_session import use_ray

        # On the main thread, because a local Ray dies with the thread that started it; and before our signal handlers,
        # because starting it sets its own.
        use_ray()
    with stop_on_signals() as stop:
        if not in_this_process:
            return _run_on_ray(job, stop, quiet)
        with progress_shown(Path(job.run_folder), job.config, quiet=quiet):
            return train_worker(job, LocalReporter(stop))


def _run_on_ray(job: TrainJob, stop: threading.Event, quiet: bool) -> WorkerResult:
    from adray.training.ray_workers import fit_on_ray

    folder = Path(job.run_folder)
    box: list[WorkerResult | BaseException] = []

    def target() -> None:
        try:
            box.append(fit_on_ray(job))
        except BaseException as error:  # handed to the main thread
            box.append(error)

    # Off the main thread: Ray would otherwise answer Ctrl-C by aborting, without a checkpoint.
    thread = threading.Thread(target=target, daemon=True, name="ray-train")
    thread.start()
    with progress_shown(folder, job.config, quiet=quiet):
        while thread.is_alive():
            thread.join(timeout=0.2)
            if stop.is_set() and not (folder / STOP_FILE).exists():
                (folder / STOP_FILE).touch()
    outcome = box[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
