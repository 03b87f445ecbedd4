"""A Ray that is started here must not be reachable from another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SCRIPT = """
import json, psutil
from adray.ray_session import use_ray
use_ray()
import ray
ray.get(ray.remote(lambda: 1).remote())
me = psutil.Process()
found = []
for process in (me, *me.children(recursive=True)):
    try:
        found += [c.laddr.ip for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        continue
print("LISTENING", json.dumps(found))
"""
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_nothing_listens_beyond_the_loopback_interface():
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_ADDRESS")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=180, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("LISTENING"))
    addresses = json.loads(line.removeprefix("LISTENING"))
    assert len(addresses) >= 3, "Ray's own services were not found"
    assert set(addresses) <= LOOPBACK
