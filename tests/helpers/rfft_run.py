"""A fine-tuning run over a tiny generator, inspector and table of products."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from adray.generation.artifact import export_generator
from adray.kinds import make_job, perform
from tests.helpers.tiny_generator import SIDE, box_cutouts, tiny_components
from tests.helpers.tiny_inspector import tiny_inspector


def png(pixels) -> bytes:
    """Encoded without loss."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def products(n: int, seed: int = 0) -> pa.Table:
    """n products, two rows of each SKU."""
    return pa.table(
        {
            "sku_id": [f"s{i // 2}" for i in range(n)],
            "annotation_id": [f"a{i}" for i in range(n)],
            "cutout": [{"bytes": png(c), "path": None} for c in box_cutouts(n, seed=seed)],
            "copy": [f"mini kettle {i}" for i in range(n)],
        }
    )


def prepare(folder, widths: tuple[int, int] = (16, 32)) -> dict:
    """Write all that a run reads; returns its config without name and training."""
    export_generator(folder / "generator", tiny_components("sample", widths=widths))
    tiny_inspector(folder / "rfnet")
    for name, n, seed in (("train", 32, 0), ("holdout", 16, 1)):
        pq.write_table(products(n, seed), folder / f"{name}.parquet")
    return {
        "kind": "rfft",
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "generator": str(folder / "generator"),
        "data": {"path": str(folder), "lanes": 4},
        "placement": {"size": SIDE, "keep_loc": True},
        "prompts": {"entries": [{"prompt": "{title}, {colour} room"}], "colours": ["red", "blue"]},
        "feedback": {"inspector": str(folder / "rfnet"), "beta": 10.0, "last_steps": 3},
        "sampling": {"steps": 4, "guidance": 2.0, "mask_cells": "any"},
        "evaluation": {"pictures": 6, "batch_rows": 4, "shown": 2},
    }


def training(**fields) -> dict:
    """A training section of four steps."""
    return {"max_steps": 4, "batch_size": 8, "lr": 1e-3, "checkpoint_every": 2, "threads": 1, **fields}


def run(values: dict, verb: str = "train"):
    """Perform a verb; returns the run and its report."""
    return perform(make_job(values, "test"), verb)
