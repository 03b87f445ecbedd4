"""Whether the workers fit on the cluster."""

from __future__ import annotations

from collections.abc import Mapping

from adray.errors import ResourceError
from adray.training.config import TrainingConfig


def check_fits_cluster(config: TrainingConfig, resources: Mapping[str, float]) -> str:
    """Refuse workers that can never be placed: Ray would wait for them for ever.

    One CPU is left for reading data; workers that reserve every CPU would wait for data that nobody can read.

    Args:
        config: Workers and what each reserves; the smaller number counts when elastic.
        resources: The cluster's totals, as from `ray.cluster_resources`.

    Returns:
        The sum, for a report.

    Raises:
        ResourceError: With the sum that does not work out.
    """
    workers = config.world_sizes()[0]
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    needed = workers * config.cpus_per_worker + 1
    text = f"{workers} workers x {config.cpus_per_worker:g} CPUs + 1 for data = {needed:g} of {cpus:g} CPUs"
    if needed > cpus:
        raise ResourceError(f"training needs {text}", "lower training.workers or cpus_per_worker, or add nodes")
    if config.gpus:
        text += f", {workers} of {gpus:g} GPUs"
        if workers > gpus:
            problem = f"training needs {workers} GPUs, the cluster has {gpus:g}"
            raise ResourceError(problem, "lower training.workers or set training.gpus=false")
    return text
