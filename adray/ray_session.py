"""The Ray that a run uses: the cluster it is told of, or one started in this process."""

from __future__ import annotations

import logging
import os

from adray.errors import ResourceError

_OBJECT_STORE_BYTES = 200 * 2**20
_NAMESPACE = "adray"


def use_ray(logical_cpus: int = 8) -> None:
    """Connect to Ray once; later calls in the same process do nothing.

    With `RAY_ADDRESS` set, that cluster is used. Otherwise an instance is started in-process, without a dashboard and with
    Ray's token authentication on. Its CPUs are logical: Train workers, Data tasks and Serve replicas each hold one, so
    there must be enough of them to be placed together, however few cores there are.

    Args:
        logical_cpus: CPUs of an instance started here, at least; never fewer than the machine has.

    Raises:
        ResourceError: If the cluster at `RAY_ADDRESS` cannot be reached.
    """
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ResourceError(f"no Ray cluster at RAY_ADDRESS={address}: {error}", "start it, or unset RAY_ADDRESS") from error
        return
    # That the token is on by default is no warning to a user who never turned it off.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=max(logical_cpus, os.cpu_count() or 1),
        namespace=_NAMESPACE,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="warning",
    )
