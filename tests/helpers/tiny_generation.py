"""A whole generation with a generator and an inspector of random weights: a real one of each kind, only small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from adray.generation.artifact import export_generator
from tests.helpers.generation_requests import request_rows, write_requests
from tests.helpers.tiny_generator import tiny_components
from tests.helpers.tiny_inspector import tiny_inspector

TABLES = {"verdicts": "image_id", "creatives": "creative_id", "generated": "annotation_id", "failures": "request_id", "quarantine": "key"}


def write_generation(folder: Path, requests: int, **fields: Any) -> dict[str, Any]:
    """Models and requests below a folder, and the fields of a config that uses them.

    The inspector's weights are random, so its probabilities hardly differ: `threshold` has to lie among them for some pictures
    to be refused.
    """
    export_generator(folder / "generator", tiny_components())
    tiny_inspector(folder / "rfnet")
    rows = request_rows(requests)
    rows[3]["cutout"] = {"bytes": b"broken", "path": None}
    return {
        "kind": "generation",
        "name": "run",
        "runs_dir": str(folder / "runs"),
        "data": {"requests": str(write_requests(folder / "requests.parquet", rows, row_group=16)), "quarantine_limit": 0.2},
        "generator": str(folder / "generator"),
        "inspector": str(folder / "rfnet"),
        "attempts": 3,
        "placement": {"size": 32, "keep_loc": True},
        "prompts": {"entries": [{"prompt": "{title}, {colour} room"}], "colours": ["red", "blue", "green"]},
        "sampling": {"steps": 2, "guidance": 2.0},
        "job": {"batch_rows": 4, "chunk_rows": 3},
    } | fields


def tables_of(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """All rows of a run by table and key, but for the time at which the run was begun."""
    found = {}
    for name, key in TABLES.items():
        rows = pq.read_table(folder / name).to_pylist()
        found[name] = {row[key]: {k: v for k, v in row.items() if k != "created_at"} for row in rows}
        assert len(found[name]) == len(rows), f"{name} has a row twice"
    return found
