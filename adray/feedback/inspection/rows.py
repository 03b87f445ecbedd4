"""What an inspection reads and writes: rows of any table of pictures in, rows of table `verdicts` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from adray.data.labels import AVAILABLE, LABELS
from adray.data.pictures import image_pixels, on_white, read_pair
from adray.data.schema import IMAGE, VERDICTS, TableSchema
from adray.data.sources import Source
from adray.errors import DataError

COMPARED = ("label", "accepted")
"""Columns that verdicts are held against when all are made."""
IDS = ("image_id", "annotation_id", "creative_id", "request_id")
"""Columns that may name a picture, in this order."""
_OPTIONAL = (
    ("copy", pa.string()),
    ("prompt", pa.string()),
    ("seed", pa.int64()),
    ("attempt", pa.int32()),
    ("label", pa.string()),
    ("accepted", pa.bool_()),
)


def pictures_table(source: Source, named_by: str | None, *, with_cutouts: bool) -> TableSchema:
    """What is read of a table of pictures.

    Args:
        source: The table.
        named_by: Column that names a picture; None takes the first of `IDS`.
        with_cutouts: Whether cut-outs are needed.

    Raises:
        DataError: If a column is missing.
    """
    names = source.schema.names
    key = named_by or next((name for name in IDS if name in names), None)
    if key is None:
        raise DataError(f"{source.path} has no column that names a picture: {', '.join(IDS)}", "add one, or set data.id")
    needed = [(key, pa.string()), ("sku_id", pa.string()), ("image", IMAGE)]
    cutout = [("cutout", IMAGE)]
    required = pa.schema(needed + (cutout if with_cutouts else []))
    optional = pa.schema(([] if with_cutouts else cutout) + list(_OPTIONAL))
    for name in required.names:
        if name not in names:
            raise DataError(f"{source.path} has no column {name!r}", f"it has {', '.join(names)}")
    return TableSchema("pictures", key, required, optional)


@dataclass(frozen=True)
class Decoded:
    """A picture that can be inspected.

    Attributes:
        row: Its row in the batch.
        picture: uint8 `[height, width, 3]`.
        cutout: uint8 `[height, width, 4]`; None where the table has none.
    """

    row: int
    picture: np.ndarray
    cutout: np.ndarray | None


def decode_row(row: int, values: Mapping[str, Any], key: str) -> Decoded:
    """Decode a row.

    Raises:
        DataError: If it cannot be used, with the reason.
        OSError: If its file cannot be read.
    """
    for name in (key, "sku_id"):
        if values[name] is None:
            raise DataError(f"{name} is null", "")
    if "cutout" in values:
        return Decoded(row, *read_pair(values["image"], values["cutout"]))
    try:
        return Decoded(row, on_white(image_pixels(values["image"])), None)
    except DataError as error:
        raise DataError(f"image: {error.problem}", "") from None


def verdict_schema(names: Sequence[str]) -> pa.Schema:
    """Columns of the verdicts on a table that has these columns."""
    kept = [VERDICTS.optional.field(name) for name in ("prompt", "seed") if name in names]
    return pa.schema([*VERDICTS.required, *kept, VERDICTS.optional.field("inspector")])


def verdict_rows(
    columns: Mapping[str, Sequence[Any]], key: str, kept: Sequence[int], probabilities: np.ndarray, inspector: str
) -> pa.Table:
    """Verdicts: the most probable label of each picture, accepted where that is `available`.

    Args:
        columns: The batch's columns.
        key: The one that names pictures.
        kept: Rows that were judged.
        probabilities: float `[kept, 5]`.
        inspector: Content hash of the artifact that judged.
    """
    labels = [LABELS[index] for index in probabilities.argmax(axis=1)]
    attempts = columns.get("attempt")
    found: dict[str, Any] = {
        "image_id": [columns[key][row] for row in kept],
        "sku_id": [columns["sku_id"][row] for row in kept],
        "label": labels,
        "accepted": [label == AVAILABLE for label in labels],
        "attempt": [attempts[row] or 0 if attempts is not None else 0 for row in kept],
        "probabilities": [list(zip(LABELS, row, strict=True)) for row in probabilities.tolist()],
        "inspector": [inspector] * len(kept),
    }
    schema = verdict_schema(list(columns))
    found |= {name: [columns[name][row] for row in kept] for name in ("prompt", "seed") if name in columns}
    return pa.table({field.name: pa.array(found[field.name], field.type) for field in schema}, schema=schema)
