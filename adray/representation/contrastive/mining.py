"""Hard negatives: the most similar creatives of other SKUs, by the vectors of an earlier encoder."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.errors import DataError
from adray.representation.contrastive.config import HardNegativesConfig
from adray.representation.embedding.provenance import iterate_vectors, read_provenance

_ROWS_AT_ONCE = 1024


def hard_negatives(pairs: pa.Table, creatives: pa.Table, config: HardNegativesConfig, schema: pa.Schema) -> pa.Table:
    """Fill the column `hard` of pairs.

    A creative of another SKU is taken when its cosine with the pair's document does not exceed `config.ceiling`: those above
    it are likely to be the same thing. Pairs that have fewer than `count` such creatives are filled up with the nearest allowed
    one again, so that every pair has equally many.

    Args:
        pairs: Rows of `schema`.
        creatives: The creatives that may be taken.
        config: Count, ceiling and vectors.
        schema: The pairs' schema.

    Raises:
        DataError: If the vectors are of several versions, a creative has none, or a pair has no candidate at all.
    """
    ids = creatives.column("creative_id").to_pylist()
    vectors = _vectors(config.embeddings, ids)
    skus = np.array(creatives.column("sku_id").to_pylist(), dtype=object)
    row_of = {creative: row for row, creative in enumerate(ids)}
    wanted = np.array([row_of[one] for one in pc.struct_field(pairs.column("document"), "creative_id").to_pylist()], np.int64)
    nearest = np.concatenate(
        [_nearest(vectors, skus, wanted[start : start + _ROWS_AT_ONCE], config) for start in range(0, len(wanted), _ROWS_AT_ONCE)]
    )
    structs = pa.StructArray.from_arrays(
        [creatives.column(field.name).combine_chunks() for field in schema.field("hard").type.value_type],
        fields=list(schema.field("hard").type.value_type),
    )
    offsets = pa.array(np.arange(len(wanted) + 1) * config.count, pa.int32())
    lists = pa.ListArray.from_arrays(offsets, structs.take(pa.array(nearest.reshape(-1))))
    return pairs.set_column(schema.get_field_index("hard"), schema.field("hard"), lists)


def _vectors(path: str, ids: list[str]) -> np.ndarray:
    """float32 `[n, d]` of length 1, in the order of `ids`."""
    provenance = read_provenance(path)
    place = {creative: row for row, creative in enumerate(ids)}
    vectors = np.zeros((len(ids), provenance.dim), np.float32)
    there = np.zeros(len(ids), bool)
    for names, block in iterate_vectors(path, provenance):
        rows = np.array([place.get(name, -1) for name in names.to_pylist()], np.int64)
        vectors[rows[rows >= 0]] = block[rows >= 0]
        there[rows[rows >= 0]] = True
    missing = np.flatnonzero(~there)
    if len(missing):
        raise DataError(f"{path} has no vector of creative {ids[missing[0]]!r} and {len(missing) - 1} others", "embed the same table first")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _nearest(vectors: np.ndarray, skus: np.ndarray, rows: np.ndarray, config: HardNegativesConfig) -> np.ndarray:
    """int64 `[rows, count]`."""
    scores = vectors[rows] @ vectors.T
    scores[(skus[rows][:, None] == skus[None, :]) | (scores > config.ceiling)] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, : config.count]
    found = np.isfinite(np.take_along_axis(scores, order, axis=1))
    if not found[:, 0].all():
        raise DataError("a creative has no hard negative below the ceiling", "raise pairs.hard_negatives.ceiling")
    return np.where(found, order, order[:, :1])
