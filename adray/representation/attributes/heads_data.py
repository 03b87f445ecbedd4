"""Vectors joined with labels, split by SKU, as tables that the trainer streams."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from adray.data.hashing import hash_strings
from adray.data.parquet import GroupReader, ParquetTable, open_parquet
from adray.errors import DataError
from adray.files import replacing_folder, write_json
from adray.representation.attributes.heads_config import HeadsDataConfig
from adray.representation.attributes.values import AUDIENCE, UNKNOWN
from adray.representation.embedding.provenance import checked_vectors, read_provenance

SPLITS = ("train", "calibration", "test")
_GROUP_ROWS = 4096


@dataclass(frozen=True)
class LabelledVectors:
    """n vectors with their labels.

    Attributes:
        vectors: float32 `[n, dim]`.
        labels: int64 `[n, heads]`, index of the value; -1 where there is no label.
    """

    vectors: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def to(self, device: Any) -> LabelledVectors:
        """Copy to a device."""
        return LabelledVectors(self.vectors.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Prepared:
    """The tables of a training run.

    Attributes:
        folder: Holds `train.parquet`, `calibration.parquet`, `test.parquet` and `heads.json`.
        classes: Head -> its values.
        dim: Width of the vectors.
        encoder: Content hash of the encoder that made them.
        rows: Rows by split.
    """

    folder: Path
    classes: Mapping[str, tuple[str, ...]]
    dim: int
    encoder: str
    rows: Mapping[str, int]

    def split(self, name: str) -> str:
        """Path of one split."""
        return str(self.folder / f"{name}.parquet")


def collate(table: pa.Table) -> LabelledVectors:
    """Rows of a prepared table as tensors."""
    lists = [table.column(name).combine_chunks() for name in ("vector", "labels")]
    vectors, labels = (np.asarray(one.flatten()).reshape(table.num_rows, -1) for one in lists)
    return LabelledVectors(torch.from_numpy(vectors.astype(np.float32)), torch.from_numpy(labels.astype(np.int64)))


def prepare(config: HeadsDataConfig, heads: Sequence[str], folder: Path) -> Prepared:
    """Join vectors with labels and write the splits. A SKU's creatives are all in one split.

    Args:
        config: Vectors and labels.
        heads: The heads wanted.
        folder: Where the tables go.

    Raises:
        DataError: If a table cannot be read, the vectors are of several versions, nothing is labelled, or a head has fewer than
            two values among the training rows.
    """
    labels, provenance = read_labels(config, heads), read_provenance(config.embeddings)
    rows, splits = [], []
    for part in _parts(open_parquet(config.embeddings)):
        keep = [key in labels for key in part.column("creative_id").to_pylist()]
        part = part.filter(pa.array(keep))
        if part.num_rows:
            splits.append(_split_of(part, config.held_out))
            rows.append(part)
    if not rows:
        raise DataError(f"table {config.labels} labels none of the vectors of {config.embeddings}", "embed the creatives that are labelled")
    joined, split = pa.concat_tables(rows), np.concatenate(splits)
    named = [labels[key] for key in joined.column("creative_id").to_pylist()]
    classes = _classes(heads, [one for one, where in zip(named, split, strict=True) if where == 0])
    index = {head: {value: i for i, value in enumerate(values)} for head, values in classes.items()}
    coded = [[index[head].get(one.get(head, ""), -1) for head in classes] for one in named]
    for vectors in joined.column("vector").chunks:
        checked_vectors(vectors, provenance, config.embeddings)
    about = {"classes": {h: list(v) for h, v in classes.items()}, "dim": provenance.dim, "encoder": provenance.encoder}
    counts = {}
    with replacing_folder(folder) as partial:
        full = pa.table({"vector": joined.column("vector"), "labels": pa.array(coded, pa.list_(pa.int64()))})
        for number, name in enumerate(SPLITS):
            own = full.filter(pa.array(split == number))
            counts[name] = own.num_rows
            pq.write_table(own, partial / f"{name}.parquet", row_group_size=_GROUP_ROWS)
        write_json(partial / "heads.json", about | {"rows": counts})
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise DataError(f"no labelled creative is left for {empty[0]}", "label more SKUs, or change data.held_out")
    return Prepared(folder, classes, provenance.dim, provenance.encoder, counts)


def load_prepared(folder: Path) -> Prepared:
    """Open what `prepare` wrote."""
    about = json.loads((folder / "heads.json").read_text(encoding="utf-8"))
    return Prepared(folder, {h: tuple(v) for h, v in about["classes"].items()}, about["dim"], about["encoder"], about["rows"])


def read_labels(config: HeadsDataConfig, heads: Sequence[str]) -> dict[str, dict[str, str]]:
    """creative_id -> head -> value, for creatives with any label.

    Raises:
        DataError: If the table cannot be read or has no column for any head.
    """
    table = open_parquet(config.labels)
    nested = "implicit" in table.schema.names
    columns = ["implicit"] if nested else [head for head in heads if head in table.schema.names]
    if not columns:
        raise DataError(
            f"{config.labels} has none of the columns {', '.join(heads)}", "name the label columns so, or give an attributes table"
        )
    found: dict[str, dict[str, str]] = {}
    reader = GroupReader(table, ["creative_id", *columns])
    for group in table.groups:
        for row in reader.read(group).to_pylist():
            values = _read_values(row["implicit"], config.least_confidence) if nested else row
            own = {head: str(values[head]) for head in heads if values.get(head) is not None}
            if own:
                found[row["creative_id"]] = own
    reader.close()
    return found


def _read_values(implicit: Mapping[str, Any], least: float) -> dict[str, str]:
    parts = {"promotion": implicit["promotion"], "style": implicit["style"], **{part: implicit["audience"][part] for part in AUDIENCE}}
    return {name: one["value"] for name, one in parts.items() if one["value"] != UNKNOWN and one["confidence"] >= least}


def _parts(table: ParquetTable) -> Any:
    columns = [name for name in ("creative_id", "sku_id", "vector") if name in table.schema.names]
    reader = GroupReader(table, columns)
    for group in table.groups:
        yield reader.read(group)
    reader.close()


def _split_of(rows: pa.Table, held_out: float) -> np.ndarray:
    """int64 `[n]`: 0 trains, 1 calibrates, 2 judges; by the hash of the SKU (of the creative where SKUs are not told)."""
    name = "sku_id" if "sku_id" in rows.column_names else "creative_id"
    share = (hash_strings(rows.column(name)).view(np.uint64) >> np.uint64(11)).astype(np.float64) / 2**53
    return np.where(share >= held_out, 0, np.where(share >= held_out / 2, 1, 2))


def _classes(heads: Sequence[str], named: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    classes = {head: tuple(sorted({one[head] for one in named if head in one})) for head in heads}
    usable = {head: values for head, values in classes.items() if len(values) >= 2}
    if not usable:
        raise DataError(f"no head of {', '.join(heads)} has labels of two values", "label more creatives")
    return usable
