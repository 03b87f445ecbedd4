"""What the command line calls for configs of kind `annotations`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from adray.checks import Check
from adray.data.images import decode_image
from adray.data.labels import LABELS
from adray.data.sources import PICTURE_SUFFIXES
from adray.data.storage import find_files
from adray.errors import AdrayError
from adray.run import Run
from adray.simulation.annotations import HOLDOUT, PRODUCTS, TRAIN, WORLD_FILE, simulate_annotations
from adray.simulation.annotations_config import AnnotationsConfig, AnnotationsRunConfig
from adray.simulation.annotations_oracle import measure

CONFIG = AnnotationsRunConfig
WORLD_FOLDER = "world"
"""The world's folder within its run's."""
_TILE, _ACROSS, _CAPTION = 128, 8, 14
_JUDGED = 512


def simulate(config: AnnotationsRunConfig, run: Run) -> None:
    """Simulate annotated pictures into `<run folder>/world`; report counts, a contact sheet, and how well the oracle agrees.

    A resumed run keeps a world that is complete and of the same parameters and seed.

    Raises:
        DataError: If the folder of cut-outs cannot be used.
    """
    folder = run.folder / WORLD_FOLDER
    with run.stage("simulate"):
        summary = (_finished(config, folder) if config.resume else None) or simulate_annotations(config.world, config.seed, folder)
    run.tables += [str(folder / name) for name in (TRAIN, HOLDOUT, PRODUCTS)]
    rows = [[part, *counts.values()] for part, counts in summary["counts"].items()]
    run.add_table("Pictures", ["part", *LABELS], rows, note="No product is in both parts.")
    for part, counts in summary["counts"].items():
        run.log({f"annotations/{part}/{label}": count for label, count in counts.items()})
    run.log({"annotations/quarantined": summary["quarantined"]})
    with run.stage("oracle"):
        run.log(oracle_agreement(folder / HOLDOUT, folder / PRODUCTS))
    with run.stage("plots"):
        run.add_plot("Some of each label", contact_sheet(folder / TRAIN, run.folder / "plots" / "labels.png"))


def oracle_agreement(annotations: Path, products: Path) -> dict[str, float]:
    """Share of pictures on which the measuring oracle finds the label that was built in, of all labels and of available or not."""
    rows = pq.ParquetFile(annotations).read_row_group(0, columns=["sku_id", "image", "cutout", "label"]).slice(0, _JUDGED)
    known = pq.read_table(products, columns=["sku_id", "attributes"]).to_pylist()
    heights = {row["sku_id"]: float(dict(row["attributes"])["height_cm"]) for row in known}
    pictures, cutouts = (np.stack([decode_image(i["bytes"]) for i in rows.column(name).to_pylist()]) for name in ("image", "cutout"))
    found = measure(pictures, cutouts, np.array([heights[sku] for sku in rows.column("sku_id").to_pylist()])).labels()
    true = np.array([LABELS.index(label) for label in rows.column("label").to_pylist()])
    return {"oracle/agreement": float(np.mean(found == true)), "oracle/binary_agreement": float(np.mean((found == 0) == (true == 0)))}


def contact_sheet(annotations: Path, path: Path) -> Path:
    """The first pictures of each label, a row a label, titles below.

    Args:
        annotations: A table of annotated pictures.
        path: The PNG to write.
    """
    rows = pq.ParquetFile(annotations).read_row_group(0, columns=["image", "copy", "label"]).to_pylist()
    step = _TILE + 4
    sheet = Image.new("RGB", (_ACROSS * step, len(LABELS) * (step + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for line, label in enumerate(LABELS):
        for place, row in enumerate([r for r in rows if r["label"] == label][:_ACROSS]):
            x, y = place * step, line * (step + _CAPTION)
            tile = Image.fromarray(decode_image(row["image"]["bytes"])).convert("RGB").resize((_TILE, _TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (x, y))
            draw.text((x, y + _TILE), f"{row['copy']}" if place else label, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _finished(config: AnnotationsRunConfig, folder: Path) -> dict[str, Any] | None:
    # A world folder appears only when it is whole, so its summary alone tells.
    if not (folder / WORLD_FILE).is_file():
        return None
    summary: dict[str, Any] = json.loads((folder / WORLD_FILE).read_text(encoding="utf-8"))
    # Fields that a world was made before are at what they were then: their defaults.
    made_with = {**AnnotationsConfig().model_dump(mode="json"), **summary["config"]}
    return summary if (summary["seed"], made_with) == (config.seed, config.world.model_dump(mode="json")) else None


def checks(config: AnnotationsRunConfig, verb: str) -> Iterator[Check]:
    """Whether the folder of cut-outs, if one is named, holds pictures."""
    path = config.world.cutouts.path
    if path is None:
        yield Check("cut-outs", f"{config.world.products} drawn products")
        return
    try:
        yield Check("cut-outs", f"{len(find_files(path, PICTURE_SUFFIXES)[1])} files in {path}")
    except AdrayError as error:
        yield Check("cut-outs", path, error)
