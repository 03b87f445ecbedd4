"""The loop in Ray Train workers: scaling, failures, and errors brought back in one line."""

from __future__ import annotations

import errno
import logging
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch.distributed as dist
from ray.exceptions import RayActorError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.callback import UserCallback

from adray.errors import AdrayError, TrainingError
from adray.training.config import TrainingConfig
from adray.training.error_log import log_error
from adray.training.loop import TrainJob, WorkerResult, train_worker
from adray.training.reporter import RayReporter
from adray.training.resources import check_fits_cluster

# Ray's defaults are for large clusters: two seconds between looks at the workers, a minute for them to start.
_RAY_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",
}
# Ray sizes an elastic group from a view of the nodes that may be 20 s old, so for a while after a node is lost it asks for
# workers that can no longer be placed. It looks again only when that has timed out.
_ELASTIC_SETTINGS = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
_COMMUNICATION_WORDS = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "broken pipe", "store", "peer")
"""In the text of torch.distributed's plain RuntimeErrors when another worker is gone."""
_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.ENOENT)
"""Storage errors that trying again does not mend."""


class LostPeerError(RuntimeError):
    """Communication with another worker broke: that worker is to be replaced, this error is only its echo."""


class _Trainer(TorchTrainer):
    """TorchTrainer that leaves out a helper which cannot work here and says so every second."""

    def _create_default_callbacks(self) -> list[Any]:
        # It frees workers after a controller's crash by asking the dashboard's state API.
        callbacks = super()._create_default_callbacks()
        return callbacks if _has_dashboard() else [c for c in callbacks if not isinstance(c, PlacementGroupCleanerCallback)]


def _has_dashboard() -> bool:
    node = ray._private.worker.global_worker.node
    return node is None or bool(node.webui_url)


def fit_on_ray(job: TrainJob) -> WorkerResult:
    """Train a job in Ray workers. Ray must be connected.

    Raises:
        ResourceError: If the workers do not fit on the cluster.
        TrainingError: If training failed for good.
    """
    check_fits_cluster(job.config, ray.cluster_resources())
    config, folder = job.config, Path(job.run_folder)
    per_worker: dict[str, float] = {"CPU": config.cpus_per_worker, **({"GPU": 1.0} if config.gpus else {})}
    elastic = isinstance(config.workers, tuple)
    settings = {**_RAY_SETTINGS, **(_ELASTIC_SETTINGS if elastic else {})}
    settings["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] = str(config.collective_timeout_s)
    if len(ray.nodes()) == 1 and not elastic:
        settings["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    with _environment(settings):
        trainer = _Trainer(
            _train_in_worker,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if config.gpus else "gloo", timeout_s=math.ceil(config.collective_timeout_s)),
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.workers,
                use_gpu=config.gpus,
                resources_per_worker=per_worker,
                elastic_resize_monitor_interval_s=config.resize_check_s,
            ),
            run_config=ray.train.RunConfig(
                # A name that was never used: Ray would resume a known one by itself, and the run's own store does that.
                name=f"{job.run_name}-{uuid.uuid4().hex[:8]}",
                storage_path=str(folder / "ray"),
                failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
                callbacks=[_StopOnOwnErrors()],
                logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),
            ),
        )
        try:
            return trainer.fit().return_value
        except ray.train.TrainingFailedError as error:
            raise _root_error(error, config) from error


def _train_in_worker(settings: Mapping[str, Any]) -> WorkerResult:
    job: TrainJob = settings["job"]
    # Ray's worker logs stay in its session folder; the root logger would also print every other package's INFO.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    if not job.config.threads:
        import torch

        torch.set_num_threads(max(1, int(job.config.cpus_per_worker)))
    folder = Path(job.run_folder)
    try:
        return train_worker(job, RayReporter(folder))
    except AdrayError:
        log_error(folder)
        raise
    except Exception as error:
        log_error(folder)
        raise _classified(error) from error


def _classified(error: Exception) -> Exception:
    """Tell a lost peer, which a retry mends, from an error of this worker, which would only come again."""
    text = " ".join(str(error).split())
    speaks_of_peers = isinstance(error, RuntimeError) and any(word in text.lower() for word in _COMMUNICATION_WORDS)
    if isinstance(error, dist.DistError) or speaks_of_peers:
        return LostPeerError(text[:500])
    if isinstance(error, OSError) and error.errno not in _LASTING:
        # Storage that is reached over a network comes back.
        return error
    return TrainingError(f"{type(error).__name__}: {text[:300]}", "see error.log in the run's folder for the trace")


class _StopOnOwnErrors(UserCallback):
    """Ends the run at once when a worker raised an error of our own, whatever `max_failures` says.

    It runs in Ray's controller, where an error in a callback is final. Ray itself would retry any error.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the first own error, if there is one."""
        for _, error in sorted(worker_exceptions.items()):
            own = _own_error(error)
            if own is not None:
                raise own


def _own_error(error: BaseException | None) -> AdrayError | None:
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, AdrayError):
            return error
        error = getattr(error, "_base_exc", None) or getattr(error, "cause", None) or error.__cause__
        seen += 1
    return None


def _root_error(error: ray.train.TrainingFailedError, config: TrainingConfig) -> AdrayError:
    """The one line for the user: an own error as it is, else what the first failing rank died of."""
    failure = getattr(error, "controller_failure", None)
    failures = getattr(error, "worker_failures", {})
    for candidate in (failure, *(e for _, e in sorted(failures.items()))):
        own = _own_error(candidate)
        if own is not None:
            return own
    for rank, reason in sorted(failures.items(), key=lambda item: not _is_death(item[1])):
        text = " ".join(str(reason).split())[:300]
        what = "died" if _is_death(reason) else "failed"
        return TrainingError(
            f"worker of rank {rank} {what} and {config.max_failures} replacements did not help: {text}",
            "if the node ran out of memory lower training.micro_batch_size; raise training.max_failures for unsteady nodes",
        )
    return TrainingError(f"Ray could not run the training: {' '.join(str(error).split())[:300]}", "see error.log in the run's folder")


def _is_death(error: BaseException) -> bool:
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set; Ray's driver and controller read them."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
