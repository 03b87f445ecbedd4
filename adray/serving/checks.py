"""What would stop a `serve` run, found before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterator

from adray.artifact import load_artifact
from adray.checks import Check
from adray.errors import AdrayError, ResourceError
from adray.serving import exposure
from adray.serving.app import LOCAL_CPUS, require_free_port
from adray.serving.config import ServeRunConfig

# The ranker's own names of these, repeated because importing them would import torch, which the checks do without.
LIGHT_KIND = "ranker.light"
HEAVY_KIND = "ranker.heavy"


def serving_checks(config: ServeRunConfig) -> Iterator[Check]:
    """Check who can reach the port, the port, the CPUs, the artifacts and the limits.

    Args:
        config: The run's config.

    Yields:
        One outcome per check, cheapest first.
    """
    yield _exposed(config)
    yield _port(config)
    yield _replicas(config)
    yield _limits(config)
    yield _artifact("light artifact", config.light, LIGHT_KIND)
    if config.heavy is None:
        yield Check("heavy artifact", "none: ads keep the request's order, and every answer says so")
    else:
        yield _artifact("heavy artifact", config.heavy, HEAVY_KIND)


def _exposed(config: ServeRunConfig) -> Check:
    try:
        exposure.key_hash(config.http)
    except AdrayError as error:
        return Check("exposure", error.problem, error)
    return Check("exposure", exposure.describe(config.http))


def _port(config: ServeRunConfig) -> Check:
    http = config.http
    if http.port == 0:
        return Check("port", f"any free port of {http.host}")
    try:
        require_free_port(http.host, http.port)
    except AdrayError as error:
        return Check("port", error.problem, error)
    return Check("port", f"{http.host}:{http.port} is free")


def _replicas(config: ServeRunConfig) -> Check:
    """Compare the CPUs that replicas reserve with what there is: Serve would wait for ever for a replica that fits nowhere."""
    parts = config.active_deployments()
    least = sum(part.min_replicas * part.num_cpus for part in parts.values())
    most = sum(part.max_replicas * part.num_cpus for part in parts.values())
    shares = " + ".join(f"{name} {part.min_replicas} x {part.num_cpus:g}" for name, part in parts.items())
    available, where = _available_cpus()
    detail = f"{shares} = {least:g} CPUs, at most {most:g}; {where}"
    if available is not None and least > available:
        cure = "lower deployments.*.num_cpus or min_replicas, or use a larger cluster"
        return Check("replicas", detail, ResourceError(f"the replicas need {least:g} CPUs ({shares}), {where}", cure))
    return Check("replicas", detail)


def _available_cpus() -> tuple[float | None, str]:
    import ray

    if ray.is_initialized():
        available = ray.available_resources().get("CPU", 0.0)
        return available, f"{available:g} are free in the running Ray"
    if os.environ.get("RAY_ADDRESS"):
        return None, "the cluster at RAY_ADDRESS is asked when the run starts"
    available = max(LOCAL_CPUS, os.cpu_count() or 1)
    return float(available), f"a local Ray has {available} logical on {os.cpu_count()} cores"


def _limits(config: ServeRunConfig) -> Check:
    """State the bounds under which requests wait; the config cannot leave one out."""
    queues = ", ".join(
        f"{name} {part.max_ongoing_requests} running a replica + {part.max_queued_requests} waiting"
        for name, part in config.active_deployments().items()
    )
    return Check("limits", f"{queues}; time-out {config.http.request_timeout_s:g} s")


def _artifact(name: str, folder: str, kind: str) -> Check:
    try:
        artifact = load_artifact(folder, kind)
    except AdrayError as error:
        return Check(name, error.problem, error)
    size = sum(path.stat().st_size for path in artifact.folder.rglob("*") if path.is_file())
    return Check(name, f"{folder}: {artifact.content_hash[:12]}, {size / 2**20:.1f} MB, every file's hash agrees")
