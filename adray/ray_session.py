"""The Ray that a run uses: the cluster it is told of, or one started in this process."""

from __future__ import annotations

import logging
import os
import sys

from adray.errors import ResourceError

LOCAL_CPUS = 8
"""Logical CPUs of an instance started here, at least."""
_OBJECT_STORE_BYTES = 200 * 2**20
_NAMESPACE = "adray"


def local_cpus(logical_cpus: int = LOCAL_CPUS) -> int:
    """Logical CPUs that an instance started here has: as many as asked for, never fewer than the machine."""
    return max(logical_cpus, os.cpu_count() or 1)


def stay_on_loopback() -> None:
    """Keep a Ray that is started in this process off every interface but the loopback one. To be called before Ray is imported.

    Ray listens on all interfaces, even when told to be 127.0.0.1, unless it is told that this machine cannot be part of a
    cluster; that switch is named after the systems it was made for, and is read when Ray is imported.
    """
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def use_ray(logical_cpus: int = LOCAL_CPUS) -> None:
    """Connect this process to Ray unless it is connected.

    With `RAY_ADDRESS` set (as inside a submitted job), that cluster is joined. Otherwise an instance is started in-process,
    on the loopback interface, without a dashboard and with Ray's token authentication on. Its CPUs are logical: Train
    workers, Data tasks and Serve replicas each hold one, so there must be enough of them to be placed together, however
    few cores there are.

    Args:
        logical_cpus: CPUs of an instance started here, at least; never fewer than the machine has.

    Raises:
        ResourceError: If the cluster at `RAY_ADDRESS` cannot be reached.
    """
    stay_on_loopback()
    import ray

    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        if address:
            _join(address)
        else:
            _start(local_cpus(logical_cpus))
    _quieten_data()


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address=address, namespace=_NAMESPACE, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ResourceError(f"no Ray cluster at RAY_ADDRESS={address}: {error}", "start it, or unset RAY_ADDRESS") from error


def _start(logical_cpus: int) -> None:
    import ray

    # Ray otherwise hides GPUs from tasks that ask for none, and warns on every worker's start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Token authentication is on by default; that it is, is no warning to anyone.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=logical_cpus,
        namespace=_NAMESPACE,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        logging_level=logging.WARNING,
        # What a process prints is in Ray's logs; what goes wrong in it is raised here.
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )


def _quieten_data() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It warns that progress bars are off, which is what was asked for.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # The error itself is raised in the driver and told there, once.
    logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)
