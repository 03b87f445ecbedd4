"""The `submit` section of a config file: how a run is handed to a cluster. It is no part of the run, and is not saved with it."""

from __future__ import annotations

from pydantic import Field

from adray.config import Config
from adray.jobs.package import RAY_LIMIT_MIB


class SubmitConfig(Config):
    """What `launch.py submit` asks the cluster for, and what it lets travel there."""

    cpus: float = Field(default=1, ge=0)
    """CPUs kept for the run's own process. From 1 on it stays off a head node that has none."""
    gpus: float = Field(default=0, ge=0)
    """GPUs kept for the run's own process; only a run that trains without Ray workers needs any."""
    pass_env: list[str] = []
    """Environment variables that travel beside the usual ones. Secrets are refused: Ray keeps a job's variables in clear."""
    max_package_mib: float = Field(default=RAY_LIMIT_MIB, gt=0, le=RAY_LIMIT_MIB)
    """Size that the package of the project's files may have; Ray's job server takes no more than the default."""
    follow: bool = True
    """Print the job's log until it ends; false returns as soon as the cluster has the job."""
    stop_wait_s: int = Field(default=120, ge=1)
    """Seconds that a job which is told to stop has for its last checkpoint, before it is killed."""
