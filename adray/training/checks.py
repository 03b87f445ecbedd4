"""Pre-flight checks of the training section: what would stop the run, found before anything slow starts."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from adray.checks import Check
from adray.data.epoch_plan import check_batch_arithmetic
from adray.errors import AdrayError, ArtifactError, ConfigError, ResourceError
from adray.ray_session import local_cpus, use_ray
from adray.run import CHECKPOINTS_FOLDER
from adray.training.checkpoint import list_checkpoints
from adray.training.config import TrainingConfig
from adray.training.loop import EXPORT
from adray.training.resources import check_fits_cluster
from adray.training.tracking import check_tracking

TESTED = {"ray": "2.60", "torch": "2.13", "deepspeed": "0.19"}
"""Versions that the trainer's tests ran with."""
BYTES_PER_PARAMETER = 16
"""fp32 weight, gradient and Adam's two moments, 4 bytes each; mixed precision sums to the same (ZeRO, Rajbhandari et al. 2020, 3.1)."""
_MIN_FREE_BYTES = 256 * 2**20


def checkpoint_check(name: str, run_folder: Path) -> Check:
    """Whether a run has a checkpoint to be exported.

    Args:
        name: The run's.
        run_folder: Where it is.
    """
    folder = run_folder / CHECKPOINTS_FOLDER
    try:
        started = bool(list_checkpoints(folder))
    except AdrayError as error:
        return Check("checkpoints", str(folder), error)
    missing = ArtifactError(f"run {name!r} has no checkpoint in {folder}", "train it first")
    return Check("checkpoints", str(folder), None if started else missing)


def exported_artifact(run_folder: Path, artifact: str) -> Path:
    """The folder of an artifact that a run has exported.

    Args:
        run_folder: The run's folder.
        artifact: The artifact's folder within the export.

    Raises:
        ArtifactError: If it is not there.
    """
    path = run_folder / EXPORT / artifact
    if not path.exists():
        raise ArtifactError(f"no artifact in {run_folder / EXPORT}", "train it first")
    return path


def artifact_check(name: str, run_folder: Path, artifact: str) -> Check:
    """Whether a run has exported the artifact that is to be judged.

    Args:
        name: The run's.
        run_folder: Where it is.
        artifact: The artifact's folder within the export.
    """
    exported = run_folder / EXPORT
    missing = ArtifactError(f"run {name!r} has no artifact in {exported}", "train it first")
    return Check("artifact", str(exported), None if (exported / artifact).exists() else missing)


def worker_memory_check(text: str, needed: float, config: TrainingConfig) -> Check:
    """What one worker is reckoned to need; a problem where a GPU that is there is too small.

    Args:
        text: The reckoning, for people.
        needed: Bytes.
        config: The training section.
    """
    if not config.gpus or not torch.cuda.is_available():
        return Check("memory per worker", text)
    there = torch.cuda.get_device_properties(0).total_memory
    problem = ResourceError(f"a worker needs {text}, its GPU has {there / 2**30:.0f} GiB", "lower training.micro_batch_size")
    return Check("memory per worker", text, problem if needed > there else None)


def training_checks(
    config: TrainingConfig, *, lanes: int | None = None, run_folder: str | Path | None = None, parameters: int | None = None
) -> Iterable[Check]:
    """Check batch arithmetic, lanes, resources, storage, memory, tracker and versions.

    Args:
        config: The training section.
        lanes: The data stream's lanes, when it has any.
        run_folder: Where checkpoints will go.
        parameters: Trainable parameters, when known.
    """
    yield Check("batch arithmetic", batch_arithmetic(config))
    if lanes is not None:
        yield _lanes(config, lanes)
    yield _resources(config)
    if run_folder is not None:
        yield _storage(Path(run_folder), config, parameters)
    if parameters is not None:
        yield _memory(config, parameters)
    yield _tracker(config)
    yield _versions()


def batch_arithmetic(config: TrainingConfig) -> str:
    """DeepSpeed's identity for every number of workers that may come: `512 = 128 micro x 2 accumulation x 2 workers`."""
    sums = []
    for workers in config.world_sizes():
        micro, accumulation = config.micro_batch(workers)
        sums.append(
            f"{config.batch_size} = {micro} micro x {accumulation} accumulation x {workers} {'workers' if workers > 1 else 'worker'}"
        )
    return "; ".join(sums)


def _lanes(config: TrainingConfig, lanes: int) -> Check:
    try:
        for workers in config.world_sizes():
            check_batch_arithmetic(config.batch_size, config.micro_batch(workers)[0], lanes, workers)
    except ConfigError as error:
        return Check("data lanes", "", error)
    return Check("data lanes", f"{lanes} lanes over {_range(config)} workers")


def _range(config: TrainingConfig) -> str:
    sizes = config.world_sizes()
    return f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"


def _resources(config: TrainingConfig) -> Check:
    name = "training resources"
    if config.workers == 0:
        return _local_gpu(config) if config.gpus else Check(name, f"in this process, {os.cpu_count()} CPUs")
    try:
        return Check(name, check_fits_cluster(config, available_resources()))
    except ResourceError as error:
        return Check(name, "", error)


def _local_gpu(config: TrainingConfig) -> Check:
    import torch

    name = "training resources"
    if torch.cuda.is_available():
        return Check(name, f"in this process, on {torch.cuda.get_device_name()}")
    return Check(name, "", ResourceError("training.gpus is true but this process sees no GPU", "set training.gpus=false or fix the driver"))


def available_resources() -> Mapping[str, float]:
    """The connected cluster's totals; else what a local instance would be given."""
    import ray

    if ray.is_initialized():
        return ray.cluster_resources()
    if os.environ.get("RAY_ADDRESS"):
        use_ray()
        return ray.cluster_resources()
    return {"CPU": float(local_cpus()), "GPU": float(_gpus())}


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _storage(folder: Path, config: TrainingConfig, parameters: int | None) -> Check:
    name = "checkpoint storage"
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        return Check(name, "", ResourceError(f"{existing} is not writable", "choose another runs_dir"))
    # Weights and two moments, and one more checkpoint while the oldest is still there.
    needed = 12 * (parameters or 0) * (config.num_to_keep + 1) + _MIN_FREE_BYTES
    free = shutil.disk_usage(existing).free
    text = f"{free / 2**30:.1f} GiB free at {existing}, about {needed / 2**30:.1f} GiB needed"
    return Check(
        name, text, None if free >= needed else ResourceError(f"not enough disk: {text}", "free space or lower training.num_to_keep")
    )


def _memory(config: TrainingConfig, parameters: int) -> Check:
    """Memory of the training state per worker (ZeRO, section 5): what a stage shards is divided by the number of workers."""
    workers = config.world_sizes()[0]
    weights, gradients, optimizer = 4 * parameters, 4 * parameters, 8 * parameters
    optimizer //= workers if config.zero_stage >= 1 else 1
    gradients //= workers if config.zero_stage >= 2 else 1
    weights //= workers if config.zero_stage >= 3 else 1
    needed = weights + gradients + optimizer
    sharded = f"ZeRO {config.zero_stage}: {needed / 2**30:.2f} GiB per worker, activations apart"
    text = f"{parameters:,} parameters x {BYTES_PER_PARAMETER} bytes, {sharded}"
    if config.gpus:
        return Check("training memory", text)
    import psutil

    total = psutil.virtual_memory().total
    local = needed * (workers if config.workers else 1)
    problem = ResourceError(
        f"the training state needs {local / 2**30:.1f} of {total / 2**30:.1f} GiB", "raise zero_stage or shrink the tables"
    )
    return Check("training memory", text, problem if local > total and not os.environ.get("RAY_ADDRESS") else None)


def _tracker(config: TrainingConfig) -> Check:
    error: AdrayError | None = None
    try:
        check_tracking(config.tracking)
    except ConfigError as found:
        error = found
    return Check("tracker", f"metrics.jsonl, W&B {config.tracking.wandb}", error)


def _versions() -> Check:
    """Untested versions are named, not refused."""
    found = {package: importlib.metadata.version(package) for package in TESTED}
    parts = [f"{p} {v}" + ("" if v.startswith(TESTED[p] + ".") else f" (tested: {TESTED[p]})") for p, v in found.items()]
    return Check("training versions", ", ".join(parts))
