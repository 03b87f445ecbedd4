"""A whole generation with a generator and an inspector of random weights: a real one of each kind, only small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from adray.data.images import decode_image
from adray.feedback.artifact import LoadedInspector
from adray.generation.artifact import export_generator
from adray.generation.components import Components
from adray.generation.sampler import PictureMaker, SamplingConfig
from tests.helpers.generation_requests import request_rows, write_requests
from tests.helpers.tiny_generator import tiny_components
from tests.helpers.tiny_inspector import tiny_inspector

SAMPLING: dict[str, Any] = {"steps": 2, "guidance": 2.0}
TABLES = {"verdicts": "image_id", "creatives": "creative_id", "generated": "annotation_id", "failures": "request_id", "quarantine": "key"}


def write_generation(folder: Path, requests: int, **fields: Any) -> dict[str, Any]:
    """Models and requests below a folder, and the fields of a config that uses them.

    The inspector's weights are random, so its probabilities hardly differ: the threshold is their median over such pictures, so
    that about half are refused.
    """
    components = tiny_components()
    export_generator(folder / "generator", components)
    inspector = tiny_inspector(folder / "rfnet")
    rows = request_rows(requests)
    cutouts = np.stack([decode_image(row["cutout"]["bytes"]) for row in rows])
    threshold = _median_available(components, inspector, cutouts, [row["copy"] for row in rows])
    rows[3]["cutout"] = {"bytes": b"broken", "path": None}
    return {
        "kind": "generation",
        "name": "run",
        "runs_dir": str(folder / "runs"),
        "data": {"requests": str(write_requests(folder / "requests.parquet", rows, row_group=16)), "quarantine_limit": 0.2},
        "generator": str(folder / "generator"),
        "inspector": str(folder / "rfnet"),
        "attempts": 3,
        "threshold": threshold,
        "placement": {"size": 32, "keep_loc": True},
        "prompts": {"entries": [{"prompt": "{title}, {colour} room"}], "colours": ["red", "blue", "green"]},
        "sampling": SAMPLING,
        "job": {"batch_rows": 4, "chunk_rows": 3},
    } | fields


def _median_available(components: Components, inspector: LoadedInspector, cutouts: np.ndarray, titles: list[str]) -> float:
    n = len(titles)
    pictures = PictureMaker(components, SamplingConfig(**SAMPLING))(cutouts, [f"{title}, red room" for title in titles], [""] * n, range(n))
    given = [torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 for pixels in (pictures, cutouts)]
    return float(inspector.probabilities(*given, titles)[:, 0].median())


def tables_of(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """All rows of a run by table and key, but for the time at which the run was begun."""
    found = {}
    for name, key in TABLES.items():
        rows = pq.read_table(folder / name).to_pylist()
        found[name] = {row[key]: {k: v for k, v in row.items() if k != "created_at"} for row in rows}
        assert len(found[name]) == len(rows), f"{name} has a row twice"
    return found
