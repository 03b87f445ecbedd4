"""`python tests/helpers/elastic_fit.py <json>`: one `fit` on a Ray cluster of several nodes that come and go while it runs.

Every node is a set of real Ray processes on the loopback interface, with token authentication. The first has room for one
worker and the data, each further one for one more worker. The driver is a process of its own; its end is this one's.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

NODE = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
CPUS_PER_WORKER = 2
PATIENCE_S = 240


def main(text):
    given = json.loads(text)
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), **given["environment"]})
    from ray.cluster_utils import Cluster

    # From this thread: Ray's nodes set signal handlers.
    head = {"num_cpus": CPUS_PER_WORKER + 1, "include_dashboard": False, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, **head})
    driver = None
    try:
        for _ in range(given["nodes"] - 1):
            cluster.add_node(**NODE, num_cpus=CPUS_PER_WORKER)
        command = [sys.executable, __file__, "drive", text]
        driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": cluster.address})
        for file, what in given["events"]:
            _wait_for(Path(file), driver)
            _happen(cluster, what)
            print(f"{time.monotonic():.0f} s: {what}", file=sys.stderr, flush=True)
        sys.exit(driver.wait(PATIENCE_S))
    finally:
        if driver is not None and driver.poll() is None:
            driver.kill()
        cluster.shutdown()


def drive(text):
    from adray.errors import AdrayError
    from adray.training.config import TrainingConfig
    from adray.training.fit import fit
    from tests.helpers.synthetic_training import SyntheticTask

    given = json.loads(text)
    task, config = SyntheticTask(**given["task"]), TrainingConfig(**{"cpus_per_worker": CPUS_PER_WORKER, **given["config"]})
    try:
        result = fit(task, config, run_folder=given["folder"], run_name="elastic", seed=1, quiet=True)
    except AdrayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(json.dumps({"steps": result.steps, "world_size": result.world_size}))


def _happen(cluster, what):
    if what == "add":
        cluster.add_node(**NODE, num_cpus=CPUS_PER_WORKER)
        return
    (node,) = cluster.worker_nodes
    if what == "remove":
        # At once, as a machine that loses its power.
        cluster.remove_node(node, allow_graceful=False)
        return
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    # As a cloud's notice does: the node is about to be taken away.
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + PATIENCE_S) * 1000)
    accepted, problem = GcsClient(address=cluster.address).drain_node(node.node_id, reason, "taken back", deadline_ms)
    assert accepted, problem


def _wait_for(file, driver):
    never = threading.Event()
    for _ in range(PATIENCE_S * 10):
        if file.exists():
            return
        if driver.poll() is not None:
            sys.exit(f"the driver ended ({driver.returncode}) before {file.name}")
        never.wait(0.1)
    sys.exit(f"{file.name} did not come")


if __name__ == "__main__":
    drive(sys.argv[2]) if sys.argv[1] == "drive" else main(sys.argv[1])
