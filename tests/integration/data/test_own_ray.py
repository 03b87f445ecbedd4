"""Where no Ray is running, ingestion starts one of its own, quietly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PROGRAM = """
import json, sys
from adray.data.config import DataConfig
from adray.data.ingest import ingest
tables = ingest(DataConfig(path=sys.argv[1]), sys.argv[2])
import ray
print(json.dumps({"rows": tables.rows, "nodes": len(ray.nodes())}))
"""


def test_ingest_starts_ray(tmp_path: Path) -> None:
    row = {"request_id": "r", "sku_id": "s", "candidates": [{"creative_id": "a"}], "exposed": 0, "clicked": 1}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "log.parquet")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "log.parquet"), str(tmp_path / "tables")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"rows": {"train": 1}, "nodes": 1}
    for noise in ("Traceback", "Execution plan", "Progress bars"):
        assert noise not in done.stderr
