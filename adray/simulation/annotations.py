"""A world of annotated pictures: product cut-outs on painted scenes, in the form of table `annotations`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from adray.data.labels import LABELS
from adray.data.pictures import png_bytes
from adray.data.schema import QUARANTINE
from adray.files import replacing_folder, write_json
from adray.simulation.annotations_config import AnnotationsConfig
from adray.simulation.annotations_products import AnnotatedProducts, draw_annotated_products
from adray.simulation.defects import draw_scenes
from adray.simulation.rendering import encode
from adray.simulation.scenes import Scenes, blend, paint_rooms
from adray.simulation.scenes_parts import part_coverage
from adray.simulation.tables import images, write_parquet

WORLD_FILE = "world.json"
TRAIN, HOLDOUT, PRODUCTS, LOST = "train.parquet", "holdout.parquet", "products.parquet", "quarantine.parquet"
_CHUNK = 256
_ROW_GROUP = 512


@dataclass(frozen=True)
class Composed:
    """n finished pictures.

    Attributes:
        pictures: uint8 `[n, size, size, 3]`.
        cutouts: uint8 `[n, size, size, 4]`, straight alpha, the product with the parts it owns. Where alpha is 255 the picture
            has the cut-out's very pixels.
    """

    pictures: np.ndarray
    cutouts: np.ndarray


def compose(scenes: Scenes, products: AnnotatedProducts, size: int) -> Composed:
    """Paint scenes with their products.

    Args:
        scenes: n scenes.
        products: Their products.
        size: Width and height of a picture.
    """
    tone = products.tone[scenes.product]
    rooms = paint_rooms(scenes, products.palette[scenes.product], size)
    coverage = part_coverage(scenes, size)
    blend(rooms, coverage * ~scenes.owned[:, None, None], tone)
    bodies = np.zeros((len(scenes), size, size, 4), np.uint8)
    for row, (left, top, right, bottom) in enumerate(scenes.body.tolist()):
        master = products.masters[scenes.product[row]].resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        _put(bodies[row], np.asarray(master), left, top)
    cutouts = _with_part(bodies, coverage * scenes.owned[:, None, None], tone)
    return Composed(paste(rooms, cutouts), cutouts)


def paste(rooms: np.ndarray, cutouts: np.ndarray) -> np.ndarray:
    """Lay cut-outs on float32 `[n, size, size, 3]` in [0, 1]: uint8, with the cut-out's very pixels where alpha is 255."""
    alpha = cutouts[..., 3:].astype(np.float32) / 255.0
    mixed = rooms * 255.0 * (1.0 - alpha) + cutouts[..., :3] * alpha
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _put(canvas: np.ndarray, pixels: np.ndarray, left: int, top: int) -> None:
    """Copy pixels into a canvas; what lies outside is cut off."""
    side = canvas.shape[0]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + pixels.shape[1], side), min(top + pixels.shape[0], side)
    canvas[y0:y1, x0:x1] = pixels[y0 - top : y1 - top, x0 - left : x1 - left]


def _with_part(bodies: np.ndarray, coverage: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """Lay bodies over the parts they own (Porter and Duff's `over`)."""
    body, behind = bodies[..., 3].astype(np.float32) / 255.0, coverage
    alpha = body + behind * (1.0 - body)
    weight = np.where(alpha > 0, body / np.maximum(alpha, 1e-6), 1.0)[..., None]
    colour = bodies[..., :3] * weight + 255.0 * tone[:, None, None, :] * (1.0 - weight)
    whole = np.concatenate([colour, 255.0 * alpha[..., None]], axis=3)
    return np.rint(whole).astype(np.uint8)


def simulate_annotations(config: AnnotationsConfig, seed: int, folder: str | Path) -> dict[str, Any]:
    """Write `train.parquet`, `holdout.parquet`, `products.parquet`, `quarantine.parquet` and `world.json`, all at once.

    Args:
        config: The world's parameters.
        seed: Of everything; equal seeds give equal bytes.
        folder: Where they go; replaced as a whole.

    Returns:
        What `world.json` holds: the config, the seed, and counts by label.

    Raises:
        DataError: If the folder of cut-outs cannot be used.
    """
    rng = np.random.default_rng(seed)
    products, lost = draw_annotated_products(config, rng)
    order = rng.permutation(len(products))
    held = max(1, round(config.holdout_products * len(products)))
    counts: dict[str, dict[str, int]] = {}
    with replacing_folder(folder) as partial:
        for name, members, n in ((TRAIN, order[held:], config.pictures), (HOLDOUT, order[:held], config.holdout_pictures)):
            scenes = draw_scenes(config, products, np.sort(members), n, rng)
            write_parquet(partial / name, _tables(scenes, products, config.size, name[0]), _ROW_GROUP)
            counts[name.partition(".")[0]] = dict(zip(LABELS, np.bincount(scenes.label, minlength=len(LABELS)).tolist(), strict=True))
        write_parquet(partial / PRODUCTS, [_products_table(products)])
        files, reasons = [file for file, _ in lost], [reason for _, reason in lost]
        rows = {"table": ["products"] * len(lost), "key": files, "stage": ["image"] * len(lost), "reason": reasons}
        write_parquet(partial / LOST, [pa.table(rows, schema=QUARANTINE.required)])
        summary = {"config": config.model_dump(mode="json"), "seed": seed, "counts": counts, "quarantined": len(lost)}
        write_json(partial / WORLD_FILE, summary)
    return summary


def _tables(scenes: Scenes, products: AnnotatedProducts, size: int, prefix: str) -> Iterator[pa.Table]:
    ids = products.ids()
    for start in range(0, len(scenes), _CHUNK):
        chunk = scenes[start : start + _CHUNK]
        made = compose(chunk, products, size)
        yield pa.table(
            {
                "annotation_id": [f"{prefix}{start + row:07d}" for row in range(len(chunk))],
                "sku_id": [ids[p] for p in chunk.product],
                "image": images(_encoded(made.pictures)),
                "cutout": images(_encoded(made.cutouts)),
                "copy": [products.titles[p] for p in chunk.product],
                "prompt": chunk.prompts(),
                "label": [LABELS[label] for label in chunk.label],
            }
        )


def _encoded(pixels: np.ndarray) -> Sequence[bytes]:
    return [png_bytes(picture) for picture in pixels]


def _products_table(products: AnnotatedProducts) -> pa.Table:
    attributes = [[("height_cm", f"{height:.1f}")] for height in products.height_cm]
    return pa.table(
        {
            "sku_id": products.ids(),
            "title": list(products.titles),
            "category": list(products.categories),
            "attributes": pa.array(attributes, pa.map_(pa.string(), pa.string())),
            "cutout": images([encode(master, "png") for master in products.masters]),
        }
    )
