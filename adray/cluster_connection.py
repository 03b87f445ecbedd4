"""Being connected to Ray: whatever is there, or a small local instance."""

from __future__ import annotations

import logging
import os
import sys

LOCAL_OBJECT_STORE_BYTES = 200 * 2**20


def ensure_ray(num_cpus: int | None = None) -> None:
    """Connect this process to Ray unless it is connected.

    With `RAY_ADDRESS` set (as inside a submitted job) that cluster is joined. Otherwise a local instance is started:
    bound to 127.0.0.1, without a dashboard, with a small object store and quiet logs.

    Args:
        num_cpus: Logical CPUs of a local instance; None takes the machine's count but at least 4, because Ray's own
            actors and a trainer's workers each want one even where cores are few.
    """
    import ray

    if not ray.is_initialized():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level=logging.WARNING)
        else:
            _start_local(num_cpus or max(4, os.cpu_count() or 1))
    _quieten_data()


def _start_local(num_cpus: int) -> None:
    import ray

    # Ray otherwise hides GPUs from tasks that ask for none, and warns on every worker's start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The instance listens on the loopback interface alone and ends with this process.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
        logging_level=logging.WARNING,
        _node_ip_address="127.0.0.1",
    )


def _quieten_data() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # The error itself is raised in the driver and told there, once.
    logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)
