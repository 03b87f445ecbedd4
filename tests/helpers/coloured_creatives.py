"""Creatives whose pictures and copy say the same thing: two colours side by side, and their names."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 220),
    "yellow": (240, 220, 40),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}


def write_creatives(path: Path, rows: int, seed: int = 0) -> Path:
    """A `creatives` table with every SKU in two creatives; pictures are noisy 32 x 32 PNGs."""
    rng = np.random.default_rng(seed)
    names, table = list(COLOURS), []
    for i in range(rows):
        left, right = rng.integers(len(names), size=2)
        pixels = np.zeros((32, 32, 3))
        pixels[:, :16], pixels[:, 16:] = COLOURS[names[left]], COLOURS[names[right]]
        noisy = (pixels + rng.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "PNG")
        table.append(
            {
                "creative_id": f"c{i}",
                "sku_id": f"s{i // 2}",
                "image": {"bytes": stream.getvalue(), "path": None},
                "copy": f"{names[left]} {names[right]}",
            }
        )
    pq.write_table(pa.Table.from_pylist(table), path)
    return path
