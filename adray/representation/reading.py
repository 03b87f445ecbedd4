"""Rows of the `creatives` table as decoded pictures beside their copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from adray.data.images import ImageRowError, decode_image
from adray.data.pictures import on_white
from adray.data.storage import join, read_bytes
from adray.errors import DataError
from adray.representation.creatives import Creatives

COLUMNS = ("creative_id", "sku_id", "image", "copy")
"""Columns that are read; `image` and `copy` may be absent, not both."""

_GAP = 2
"""How much larger than wanted a picture may stay: Pillow's own measure for a reduction whose second step hides the first."""


def creatives_from_arrow(
    table: pa.Table, *, at_least: int | None = None, root: str | None = None
) -> tuple[Creatives, list[tuple[int, str]]]:
    """Decode the pictures of some rows.

    Transparency is laid on white, which is what a shop's page shows through it. A row without picture is usable when it has
    copy, and the other way round; a row whose picture is broken is not, whatever its copy.

    Args:
        table: Rows with the columns `COLUMNS`, others are passed over.
        at_least: Shorter side wanted, in pixels: larger pictures are brought near it while they are read, so that a batch of
            huge ones fits into memory. None keeps every picture's size.
        root: What relative paths of pictures are relative to; None takes them as they are.

    Returns:
        The usable rows in order, and (row, reason) of each other one.

    Raises:
        DataError: If there is no id column, or neither picture nor copy.
    """
    _check_columns(table)
    ids, skus, copies, images = (_values(table, name) for name in ("creative_id", "sku_id", "copy", "image"))
    kept: list[int] = []
    pictures: list[np.ndarray | None] = []
    lost: list[tuple[int, str]] = []
    for row in range(table.num_rows):
        try:
            picture = _picture(images[row], at_least, root)
            reason = _missing(ids[row], skus[row], picture, copies[row])
        except (DataError, OSError) as error:
            picture, reason = None, f"image: {error.problem if isinstance(error, DataError) else error}"
        if reason:
            lost.append((row, reason))
        else:
            kept.append(row)
            pictures.append(picture)
    return Creatives([ids[row] for row in kept], [skus[row] for row in kept], pictures, [copies[row] or "" for row in kept]), lost


def _check_columns(table: pa.Table) -> None:
    names = table.column_names
    missing = [repr(name) for name in ("creative_id", "sku_id") if name not in names]
    if not {"image", "copy"} & set(names):
        missing.append("'image' or 'copy'")
    if missing:
        raise DataError(f"the creatives have no column {missing[0]}", f"columns found: {', '.join(names)}")


def _values(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _missing(creative_id: str | None, sku_id: str | None, picture: np.ndarray | None, copy: str | None) -> str:
    if creative_id is None or sku_id is None:
        return f"{'creative_id' if creative_id is None else 'sku_id'} is null"
    if picture is None and not (copy or "").strip():
        return "neither a picture nor copy"
    return ""


def _picture(image: dict[str, Any] | None, at_least: int | None, root: str | None) -> np.ndarray | None:
    """uint8 `[height, width, 3]`, or None where the row has no picture."""
    if image is None or (image["bytes"] is None and image["path"] is None):
        return None
    data = image["bytes"] if image["bytes"] is not None else read_bytes(_whole(image["path"], root))
    pixels = decode_image(data, at_least=at_least)
    if 0 in pixels.shape[:2]:
        raise ImageRowError("the picture has no pixels", "")
    return _reduced(on_white(pixels), at_least)


def _whole(path: str, root: str | None) -> str:
    return path if root is None or path.startswith("/") or "://" in path else join(root, path)


def _reduced(pixels: np.ndarray, at_least: int | None) -> np.ndarray:
    """Averaged over whole boxes of pixels while the shorter side stays at least `_GAP` times what is wanted."""
    factor = 1 if at_least is None else min(pixels.shape[:2]) // (_GAP * at_least)
    return pixels if factor < 2 else np.asarray(Image.fromarray(pixels).reduce(factor))
