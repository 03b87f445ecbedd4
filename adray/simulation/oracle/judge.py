"""Judging a table of pictures, a few hundred at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from adray.data.labels import LABELS
from adray.data.parquet import GroupReader, ParquetTable, check_columns, open_parquet
from adray.data.pictures import read_pair
from adray.data.schema import ANNOTATIONS, IMAGE
from adray.data.sources import open_source
from adray.data.validate import with_whole_paths
from adray.errors import DataError
from adray.simulation.annotations_oracle import measure
from adray.simulation.oracle.background import Backgrounds, asked_hues, measure_backgrounds

IDS = ("annotation_id", "image_id", "creative_id", "request_id")
"""Columns that may name a picture, in this order."""
LEAST_SIZE = 32
"""Smallest side that the oracle measures in, as in `AnnotationsConfig.size`."""
_ROWS = 256
_SHOWN = 6


@dataclass(frozen=True)
class Judged:
    """n pictures as the oracle judged them.

    Attributes:
        ids: Their names.
        skus: Their products.
        keys: What names their requests, for pairing.
        label: int64 `[n]`, the oracle's, index into `LABELS`.
        truth: int64 `[n]`, the table's own label; -1 where it has none.
        accepted: bool `[n]`, whether whoever made them accepted them; False where that is not known.
        asked: int64 `[n]`, hue that the prompt asked for; -1 for none.
        background: What was measured behind the products.
        lost: (id, reason) of pictures that could not be judged.
        shown: (label, picture, caption) of a few of each label.
    """

    ids: list[str]
    skus: list[str]
    keys: list[str]
    label: np.ndarray
    truth: np.ndarray
    accepted: np.ndarray
    asked: np.ndarray
    background: Backgrounds
    lost: list[tuple[str, str]] = field(default_factory=list)
    shown: list[tuple[int, np.ndarray, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def available(self) -> np.ndarray:
        """bool `[n]`, whether a picture is fit to publish."""
        return self.label == 0


def read_heights(path: str) -> dict[str, float]:
    """True heights in cm by product, from a `products` table; products without one are left out.

    Raises:
        DataError: If it cannot be read, or no product has a height.
    """
    table = open_parquet(path)
    check_columns(table, ["sku_id", "attributes"])
    found: dict[str, float] = {}
    for row in _rows(table, ["sku_id", "attributes"]):
        for sku, attributes in zip(row.column("sku_id").to_pylist(), row.column("attributes").to_pylist(), strict=True):
            try:
                height = float(dict(attributes or ()).get("height_cm", "nan"))
            except ValueError:
                continue
            if height > 0:
                found[sku] = height
    if not found:
        raise DataError(f"{path}: no product has attributes.height_cm", "give the products of a world of annotated pictures")
    return found


def open_pictures(path: str, named_by: str | None) -> tuple[ParquetTable, str]:
    """A table of pictures and the column that names them.

    Raises:
        DataError: If it cannot be read or lacks a column.
    """
    table = open_parquet(path)
    check_columns(table, [named_by] if named_by else [])
    check_columns(table, ["sku_id", "image", "cutout"])
    for name in ("image", "cutout"):
        if not pa.types.is_struct(table.schema.field(name).type):
            raise DataError(f"{path}: column {name!r} is {table.schema.field(name).type}", "pictures are structs of bytes and path")
    found = named_by or next((name for name in IDS if name in table.schema.names), None)
    if found is None:
        raise DataError(f"{path} has no column that names a picture: {', '.join(IDS)}", "add one, or set data.id")
    return table, found


def judge_table(
    path: str,
    heights: Mapping[str, float],
    *,
    named_by: str | None = None,
    pair_on: Sequence[str] = (),
    write: Callable[[pa.Table], None] | None = None,
) -> Judged:
    """Judge all pictures of a table.

    Args:
        path: Parquet; see `OracleDataConfig.pictures`.
        heights: True heights of products, in cm.
        named_by: Column that names a picture.
        pair_on: Columns that name its request.
        write: Given rows of table `annotations` as they are judged, with the oracle's label.

    Raises:
        DataError: If the table cannot be read.
    """
    table, key = open_pictures(path, named_by)
    check_columns(table, pair_on)
    folder = open_source(path).folder
    lost: list[tuple[str, str]] = []
    judged = (_judge(with_whole_paths(rows, folder), key, heights, pair_on, write, lost) for rows in _rows(table, table.schema.names))
    parts = [part for part in judged if part is not None]
    if not parts:
        why = f"; first {lost[0][0]}: {lost[0][1]}" if lost else ""
        raise DataError(f"{path} has no picture that can be judged{why}", "check the table")
    return _joined(parts, lost)


def _rows(table: ParquetTable, columns: Sequence[str]) -> Iterator[pa.Table]:
    reader = GroupReader(table, columns)
    try:
        for group in table.groups:
            yield from reader.iterate(group, _ROWS)
    finally:
        reader.close()


def _judge(
    rows: pa.Table,
    key: str,
    heights: Mapping[str, float],
    pair_on: Sequence[str],
    write: Callable[[pa.Table], None] | None,
    lost: list[tuple[str, str]],
) -> Judged | None:
    columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
    beside = ("prompt", "copy", "label", "accepted")
    prompts, copies, labels, accepted = (columns.get(name, [None] * rows.num_rows) for name in beside)
    pixels: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for row in range(rows.num_rows):
        try:
            pixels[row] = _usable({name: values[row] for name, values in columns.items()}, key, heights)
        except DataError as error:
            lost.append((str(columns[key][row]), error.problem))
    if not pixels:
        return None
    kept = sorted(pixels)
    skus = [columns["sku_id"][row] for row in kept]
    label, background = _measured([pixels[row] for row in kept], np.array([heights[sku] for sku in skus]))
    shown = [
        (int(label[i]), pixels[row][0], f"{LABELS[label[i]]}\n{(prompts[row] or '')[:28]}")
        for i, row in enumerate(kept)
        if (label[:i] == label[i]).sum() < _SHOWN
    ]
    if write is not None:
        names = {"annotation_id": [str(columns[key][row]) for row in kept], "sku_id": skus, "label": [LABELS[one] for one in label]}
        written = {"copy": [copies[row] for row in kept], "prompt": [prompts[row] for row in kept]}
        pictures = {name: pa.array([columns[name][row] for row in kept], IMAGE) for name in ("image", "cutout")}
        write(pa.table({**names, **written, **pictures}).select(SCHEMA.names).cast(SCHEMA))
    return Judged(
        [str(columns[key][row]) for row in kept],
        skus,
        [" ".join(str(columns[name][row]) for name in pair_on) for row in kept],
        label,
        np.array([LABELS.index(labels[row]) if labels[row] in LABELS else -1 for row in kept], np.int64),
        np.array([bool(accepted[row]) for row in kept], bool),
        asked_hues([prompts[row] for row in kept]),
        background,
        shown=shown,
    )


SCHEMA = pa.schema([*ANNOTATIONS.required, *(ANNOTATIONS.optional.field(name) for name in ("cutout", "copy", "prompt"))])
"""Of the table that is written."""


def _usable(row: Mapping[str, Any], key: str, heights: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    if row[key] is None or row["sku_id"] is None:
        raise DataError(f"{key if row[key] is None else 'sku_id'} is null", "")
    if row["sku_id"] not in heights:
        raise DataError(f"product {row['sku_id']!r} has no height in the products table", "")
    picture, cutout = read_pair(row["image"], row["cutout"])
    if picture.shape[0] != picture.shape[1] or picture.shape[0] < LEAST_SIZE:
        raise DataError(f"image: it is {picture.shape[1]}x{picture.shape[0]}; the oracle measures squares from {LEAST_SIZE} on", "")
    return picture, cutout


def _measured(pixels: Sequence[tuple[np.ndarray, np.ndarray]], heights: np.ndarray) -> tuple[np.ndarray, Backgrounds]:
    """Labels and backgrounds; pictures of one size at a time."""
    sizes = np.array([len(picture) for picture, _ in pixels])
    order, labels, parts = [], [], []
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        pictures, cutouts = (np.stack([pixels[row][side] for row in rows.tolist()]) for side in (0, 1))
        found = measure(pictures, cutouts, heights[rows])
        order.append(rows)
        labels.append(found.labels())
        parts.append(measure_backgrounds(pictures, cutouts, found.line, found.reference))
    place = np.argsort(np.concatenate(order))
    return np.concatenate(labels)[place], Backgrounds.concatenated(parts)[place]


def _joined(parts: Sequence[Judged], lost: list[tuple[str, str]]) -> Judged:
    def listed(name: str) -> list[Any]:
        return [value for part in parts for value in getattr(part, name)]

    names = ("label", "truth", "accepted", "asked")
    label, truth, accepted, asked = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    shown = sorted(listed("shown"), key=lambda one: one[0])
    few = [one for i, one in enumerate(shown) if i < _SHOWN or shown[i - _SHOWN][0] != one[0]]
    background = Backgrounds.concatenated([part.background for part in parts])
    return Judged(listed("ids"), listed("skus"), listed("keys"), label, truth, accepted, asked, background, lost, few)
