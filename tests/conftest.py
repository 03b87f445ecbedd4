"""What every test shares: a quiet, small, local set-up and one Ray instance per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before anything imports Ray, torch or W&B: they read these once.
os.environ.update(
    {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # A new local instance turns token auth on; tests run on the loopback interface alone.
        "RAY_AUTH_MODE": "disabled",
        # Read when Ray is imported: without it Ray listens on every interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "180",
        "RAY_USAGE_STATS_ENABLED": "0",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
)
os.environ.pop("RAY_ADDRESS", None)

import pytest

LANES = {"unit": "unit", "browser": "browser", "chaos": "chaos", "integration": "integration", "benchmarks": "slow"}
"""Folder under tests/ -> the mark its tests carry."""

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the mark of its folder, so that no file can forget its lane, and run the lanes in their order above.

    Units come first: Ray and the browser's driver leave an event loop and signal handlers in the process.
    """
    order = {name: place for place, name in enumerate(LANES)}
    items.sort(key=lambda item: order.get(item.path.relative_to(_HERE).parts[0], len(order)))
    for item in items:
        mark = LANES.get(item.path.relative_to(_HERE).parts[0])
        if mark is not None:
            item.add_marker(mark)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray instance for all tests of the session: 8 logical CPUs, loopback only, no dashboard."""
    import ray

    ray.init(
        address="local",
        num_cpus=8,
        namespace="adray-tests",
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=True,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()
