"""Building an index: trained once, filled in shards, written as an artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from adray.data.hashing import hash_strings
from adray.data.parquet import GroupReader, ParquetTable, RowGroup, open_parquet
from adray.errors import ConfigError, DataError, ResourceError
from adray.representation.embedding.provenance import READ_ROWS, Provenance, checked_vectors
from adray.representation.retrieval.config import IndexRunConfig, Metric

METRICS = {"inner_product": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}


@dataclass(frozen=True)
class Range:
    """Rows `[first, last)` of a table, as pieces of its row groups.

    Attributes:
        table: The table.
        pieces: (row group, first row in it, rows).
    """

    table: ParquetTable
    pieces: tuple[tuple[RowGroup, int, int], ...]


def check_metric(metric: Metric, provenance: Provenance, source: str) -> None:
    """Refuse a metric that contradicts the vectors.

    The inner product of vectors of several lengths prefers long ones, and L2 distances of angular data rank as cosines only
    when lengths are 1, where the inner product says it directly.

    Raises:
        ConfigError: Naming the right one.
    """
    right = "inner_product" if provenance.normalised else "l2"
    if metric != right:
        state = "normalised" if provenance.normalised else "not normalised"
        raise ConfigError(f"field 'metric' is {metric!r}, the vectors of {source} are {state}", f"set metric={right}")


def new_index(factory: str, dim: int, metric: Metric) -> Any:
    """An empty Faiss index.

    Raises:
        ConfigError: If Faiss does not know the factory string, or it does not fit the width.
    """
    try:
        return faiss.index_factory(dim, factory, METRICS[metric])
    except RuntimeError as error:
        text = str(error).strip().splitlines()[-1].split("' failed: ")[-1]
        raise ConfigError(f"field 'factory' is {factory!r}: {text} (vectors of {dim} values)", "e.g. Flat, IVF1024,Flat, HNSW32") from None


def needed_rows(index: Any) -> int:
    """Vectors that training needs at least: one per centroid of its coarse quantiser, 2^bits per PQ codebook; 0 without training."""
    found = 0 if index.is_trained else 1
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        return max(found, needed_rows(faiss.downcast_index(inner.index)))
    if isinstance(inner, faiss.IndexRefine):
        return max(found, needed_rows(faiss.downcast_index(inner.base_index)))
    if hasattr(inner, "nlist"):
        found = max(found, int(inner.nlist))
    quantiser = getattr(inner, "pq", None)
    return max(found, int(quantiser.ksub)) if quantiser is not None else found


def ranges(path: str, count: int) -> list[Range]:
    """A table cut into `count` ranges of rows as equal as can be; fewer when there are fewer rows."""
    table = open_parquet(path)
    total = sum(group.rows for group in table.groups)
    edges = np.unique(np.linspace(0, total, min(count, total) + 1).astype(np.int64))
    found = []
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        pieces, at = [], 0
        for group in table.groups:
            low, high = max(first, at), min(last, at + group.rows)
            if low < high:
                pieces.append((group, low - at, high - low))
            at += group.rows
        found.append(Range(table, tuple(pieces)))
    return found


def read_range(rows: Range, provenance: Provenance) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """(creative ids, float32 `[n, dim]`) of a range, a piece of its row groups at a time."""
    reader = GroupReader(rows.table, ["creative_id", "vector"])
    try:
        for group, start, count in rows.pieces:
            at = 0
            for batch in reader.iterate(group, READ_ROWS):
                low, high = max(start - at, 0), min(start + count - at, batch.num_rows)
                if low < high:
                    piece = batch.slice(low, high - low).combine_chunks()
                    vectors = checked_vectors(piece.column("vector").chunk(0), provenance, rows.table.path)
                    yield piece.column("creative_id").chunk(0), vectors
                at += batch.num_rows
    finally:
        reader.close()


def train(config: IndexRunConfig, provenance: Provenance) -> bytes:
    """The empty index after training on a seeded sample of the table, serialised: what every shard starts from.

    Raises:
        ConfigError: If the factory string is wrong, or the table has fewer vectors than its quantisers need.
    """
    index = new_index(config.factory, provenance.dim, config.metric)
    whole = ranges(config.embeddings, 1)[0]
    total = sum(count for _, _, count in whole.pieces)
    needed = needed_rows(index)
    if needed > total:
        problem = f"field 'factory' is {config.factory!r}: training needs {needed} vectors at least, {config.embeddings} has {total}"
        raise ConfigError(problem, "choose fewer lists or codes, or Flat")
    if not index.is_trained:
        sample = _sample(whole, provenance, total, min(total, max(needed, config.train_rows)), config.seed)
        _accept_small_samples(index)
        index = _to_gpu(index) if config.gpus else index
        index.train(sample)
        index = faiss.index_gpu_to_cpu(index) if config.gpus else index
    return bytes(faiss.serialize_index(index))


def _sample(whole: Range, provenance: Provenance, total: int, rows: int, seed: int) -> np.ndarray:
    chosen = np.sort(np.random.default_rng(seed).choice(total, rows, replace=False))
    parts, at = [], 0
    for _, vectors in read_range(whole, provenance):
        low, high = np.searchsorted(chosen, [at, at + len(vectors)])
        parts.append(vectors[chosen[low:high] - at])
        at += len(vectors)
    return np.concatenate(parts)


def _accept_small_samples(index: Any) -> None:
    """Faiss otherwise prints a line for every codebook trained on fewer than 39 vectors per centroid."""
    inverted = faiss.try_extract_index_ivf(index)
    for part in (inverted, faiss.downcast_index(index)):
        for holder in (part, getattr(part, "pq", None)):
            if holder is not None and hasattr(holder, "cp"):
                holder.cp.min_points_per_centroid = 1


def build_shard(trained: bytes, rows: Range, provenance: Provenance, folder: Path, number: int, gpus: bool) -> dict[str, int]:
    """Fill one shard and write `shard-<number>.faiss` with its ids and names.

    Vectors are added in ascending order of their id, so that of equal scores the smallest id is kept, in one shard as in many.

    Returns:
        Its rows and the bytes of its index.
    """
    names, blocks = [], []
    for ids, vectors in read_range(rows, provenance):
        names.append(ids)
        blocks.append(vectors.astype(np.float16))
    all_names = pa.concat_arrays(names)
    hashes = hash_strings(all_names)
    order = np.argsort(hashes, kind="stable")
    vectors16 = np.concatenate(blocks)
    blocks.clear()
    index = faiss.deserialize_index(np.frombuffer(trained, np.uint8))
    index = _to_gpu(index) if gpus else index
    for start in range(0, len(order), READ_ROWS):
        block = vectors16[order[start : start + READ_ROWS]].astype(np.float32)
        if provenance.normalised:
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        index.add(block)
    path = folder / f"shard-{number:05d}.faiss"
    faiss.write_index(faiss.index_gpu_to_cpu(index) if gpus else index, str(path))
    np.save(folder / f"ids-{number:05d}.npy", hashes[order])
    _save_names(all_names.take(pa.array(order)), folder, number)
    return {"rows": len(order), "bytes": path.stat().st_size}


def _save_names(names: pa.Array, folder: Path, number: int) -> None:
    large = names.cast(pa.large_string())
    _, offsets, data = large.buffers()
    np.save(folder / f"name-ends-{number:05d}.npy", np.frombuffer(offsets, np.int64, len(names) + 1, large.offset * 8))
    np.save(folder / f"names-{number:05d}.npy", np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8))


def check_ids(ids: Sequence[np.ndarray], source: str) -> None:
    """Refuse an id that is in the index twice.

    Raises:
        DataError: If one is.
    """
    together = np.sort(np.concatenate(ids))
    if (together[1:] == together[:-1]).any():
        raise DataError(f"{source} has a creative_id twice", "keep one vector per creative")


def check_gpu() -> None:
    """Refuse a Faiss that cannot work on a GPU.

    Raises:
        ResourceError: If it is built for CPUs, or there is no GPU.
    """
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        raise ResourceError("field 'gpus' is true and this Faiss sees no GPU", "install adray[gpu] instead of faiss-cpu, or set gpus=false")


def _to_gpu(index: Any) -> Any:
    check_gpu()
    return faiss.index_cpu_to_all_gpus(index)


def describe(config: IndexRunConfig, provenance: Provenance, shards: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """What `index.json` and the artifact's config say."""
    return {
        "factory": config.factory,
        "metric": config.metric,
        "rows": sum(shard["rows"] for shard in shards),
        "bytes": sum(shard["bytes"] for shard in shards),
        "shards": [dict(shard) for shard in shards],
        "nprobe": config.nprobe,
        "ef_search": config.ef_search,
        "refine": config.refine,
        "provenance": provenance.as_dict(),
    }
