"""What two vectors must share to be comparable, kept beside each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.data.parquet import GroupReader, open_parquet
from adray.errors import DataError
from adray.representation.encoders.base import Encoder

READ_ROWS = 16_384
"""Vectors held at a time while a table is read."""

_UNIT = 0.01
"""How far a vector's length may be from 1: float16 rounding stays below 0.001."""


@dataclass(frozen=True)
class Provenance:
    """What made a vector.

    Attributes:
        encoder: Content hash (hex) of the encoder's artifact.
        prompt: Hash of the prompt; empty where the encoder has none.
        transform: Hash of everything done to picture and copy before the encoder, and to the vector after it.
        dim: Width of the vector.
        normalised: Whether vectors have length 1.
    """

    encoder: str
    prompt: str
    transform: str
    dim: int
    normalised: bool

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def difference(self, other: Provenance) -> str:
        """The first field in which the two differ, in words; empty when they are equal."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                return f"{field.name} {_short(mine)} and {field.name} {_short(theirs)}"
        return ""


def provenance_of(encoder: Encoder, encoder_hash: str, dim: int, steps: Mapping[str, Any]) -> Provenance:
    """The provenance of an encoder's vectors.

    Args:
        encoder: The encoder.
        encoder_hash: Content hash of its artifact.
        dim: Width of the vectors that are kept.
        steps: What else shapes a vector (reading, precision, truncation), as JSON values.
    """
    transform = encoder.transform()
    prompts = {name: value for name, value in transform.items() if "prompt" in name or "template" in name}
    return Provenance(encoder_hash, _hash(prompts) if prompts else "", _hash({"encoder": transform, **steps}), dim, True)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 16 else repr(value)


def embeddings_table(creative_ids: list[str], sku_ids: list[str], vectors: np.ndarray, provenance: Provenance) -> pa.Table:
    """Rows of table `embeddings`.

    Args:
        creative_ids: n ids.
        sku_ids: n ids of their SKUs.
        vectors: `[n, dim]`, kept as float16.
        provenance: Written beside every row.
    """
    rows = len(creative_ids)
    offsets = np.arange(rows + 1, dtype=np.int32) * provenance.dim
    values = pa.array(np.ascontiguousarray(vectors, np.float16).reshape(-1))
    columns = {
        "creative_id": pa.array(creative_ids, pa.string()),
        "encoder": pa.array([provenance.encoder] * rows, pa.string()),
        "vector": pa.ListArray.from_arrays(pa.array(offsets), values),
        "sku_id": pa.array(sku_ids, pa.string()),
        "prompt": pa.array([provenance.prompt] * rows, pa.string()),
        "transform": pa.array([provenance.transform] * rows, pa.string()),
        "dim": pa.array([provenance.dim] * rows, pa.int32()),
        "normalised": pa.array([provenance.normalised] * rows, pa.bool_()),
    }
    return pa.table(columns)


def read_provenance(path: str) -> Provenance:
    """The one provenance of an `embeddings` table.

    Columns that a table from elsewhere lacks are taken as: no prompt, no transform, the first vector's width, not normalised.

    Raises:
        DataError: If the table is missing, has no vector, or mixes provenances.
    """
    table = open_parquet(path)
    for name in ("creative_id", "encoder", "vector"):
        if name not in table.schema.names:
            raise DataError(f"{path} has no column {name!r}", "give a table of kind `embeddings`")
    names = [f.name for f in fields(Provenance) if f.name in table.schema.names]
    reader = GroupReader(table, names)
    found: list[Provenance] = []
    width = _first_width(path)
    for group in table.groups:
        for batch in reader.iterate(group, READ_ROWS):
            for row in batch.select(names).group_by(names).aggregate([]).to_pylist():
                hashes = (row["encoder"], row.get("prompt") or "", row.get("transform") or "")
                one = Provenance(*hashes, row.get("dim") or width, bool(row.get("normalised")))
                if found and one != found[0]:
                    raise DataError(
                        f"{path} mixes vectors of {found[0].difference(one)}", "keep one version's rows, or embed all creatives again"
                    )
                found = [one]
    reader.close()
    if not found:
        raise DataError(f"{path} holds no vector", "embed some creatives first")
    return found[0]


def _first_width(path: str) -> int:
    for _, vectors in _raw_vectors(path, 1):
        return len(vectors[0].as_py() or [])
    return 0


def iterate_vectors(path: str, provenance: Provenance) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """(creative ids, float32 `[n, dim]`) of a table in pieces; normalised vectors are brought back to length 1 exactly.

    Args:
        path: An `embeddings` table.
        provenance: Its provenance.

    Raises:
        DataError: If a vector has another width, is not finite, or is not of length 1 although the table says so.
    """
    for ids, column in _raw_vectors(path, READ_ROWS):
        yield ids, checked_vectors(column, provenance, path)


def checked_vectors(column: pa.Array, provenance: Provenance, path: str) -> np.ndarray:
    """A column of vectors as float32 `[n, dim]`; see `iterate_vectors`."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    if not (lengths == provenance.dim).all():
        wrong = lengths[lengths != provenance.dim][0]
        raise DataError(f"{path}: a vector has {wrong} values, its table says {provenance.dim}", "embed the creatives again")
    vectors = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, provenance.dim)
    norms = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(norms).all():
        raise DataError(f"{path}: a vector holds a value that is not finite", "embed the creatives again")
    if not provenance.normalised:
        return vectors
    if (np.abs(norms - 1) > _UNIT).any():
        raise DataError(f"{path}: column 'normalised' is true and a vector has length {norms[np.abs(norms - 1).argmax()]:.3f}", "mend it")
    return vectors / norms[:, None]


def _raw_vectors(path: str, rows: int) -> Iterator[tuple[pa.Array, pa.Array]]:
    table = open_parquet(path)
    reader = GroupReader(table, ["creative_id", "vector"])
    try:
        for group in table.groups:
            for batch in reader.iterate(group, rows):
                ids, vectors = batch.column("creative_id").combine_chunks(), batch.column("vector").combine_chunks()
                yield _one(ids), _one(vectors)
    finally:
        reader.close()


def _one(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
