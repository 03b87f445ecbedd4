"""Requests for generation, and plain stand-ins for generator and inspector whose chances are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from adray.data.schema import IMAGE
from adray.generation.conditioning import paste
from tests.helpers.edge_cutouts import drawn, encoded

SIDE = 32


def cutout(seed: int, side: int = SIDE) -> np.ndarray:
    """A product on a transparent canvas of its picture's size, uint8 `[side, side, 4]`."""
    rng = np.random.default_rng(seed)
    left, top = rng.integers(2, side // 3, 2).tolist()
    return drawn(side, side, (left, top, left + side // 2, top + side // 2 - 1))


def request_rows(n: int, per_sku: int = 1) -> list[dict[str, object]]:
    """n rows in the form of `annotations`, `per_sku` of each product."""
    return [
        {
            "annotation_id": f"h{i:04d}",
            "sku_id": f"sku{i // per_sku:03d}",
            "cutout": {"bytes": encoded(cutout(i // per_sku)), "path": None},
            "copy": f"Bozo {('mini', 'giant')[i % 2]} kettle",
            "label": "available",
        }
        for i in range(n)
    ]


def write_requests(path: Path, rows: list[dict[str, object]], row_group: int = 64) -> Path:
    """Rows as Parquet; columns are those of the first row."""
    types = {"cutout": IMAGE, "image": IMAGE}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=row_group)
    return path


def noise_maker(cutouts, prompts, negatives, seeds):
    """Pictures of noise that depend on their own seeds alone, with the product in them."""
    pictures = [np.random.default_rng(seed).integers(0, 256, (*cutouts.shape[1:3], 3), np.uint8) for seed in seeds]
    return paste(np.stack(pictures), cutouts)


def coin_judge(chance: float):
    """A judge who accepts with a given chance, by a coin that the picture's own bytes throw; the rest goes to the other labels."""

    def judge(pictures, cutouts, titles):
        found = []
        for picture in pictures:
            rng = np.random.default_rng(xxhash.xxh3_64_intdigest(np.ascontiguousarray(picture).tobytes()))
            others = rng.dirichlet(np.ones(4))
            available = rng.uniform(0.55, 1.0) if rng.random() < chance else rng.uniform(0.0, 0.19)
            found.append([available, *((1 - available) * others)])
        return np.array(found, np.float32)

    return judge
