"""The catalogue: every creative's features by hashed id, in memory-mapped files built in one streaming pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.files import replacing_folder
from adray.ranking import arrays
from adray.ranking.arrays import RaggedArray, flat_places, offsets_of
from adray.ranking.ngrams import hash_ngrams

_READ_ROWS = 32_768
_PERMUTE_ROWS = 262_144
_TEXTS: dict[str, type[np.generic]] = {"elements": np.int64, "ngrams": np.int64, "names": np.uint8, "sku_names": np.uint8}
_RAGGED = (*_TEXTS, "attributes")


@dataclass(frozen=True)
class Catalogue:
    """C creatives in ascending order of their hashed id. Pickles as its folder's path.

    Attributes:
        folder: Where the files lie.
        creatives: int64 `[C]`, hashed ids, ascending.
        skus: int64 `[C]`, hashed id of each creative's SKU.
        elements: Hashed `slot=element` of each creative.
        ngrams: Hashed word 1- and 2-grams of each creative's copy.
        names: UTF-8 bytes of each creative's id.
        sku_names: UTF-8 bytes of each creative's SKU's id.
        attributes: Hashed `field=value` of what was extracted from each creative.
        content: float16 `[C, content_dim]`; zeros where no vector is known.
    """

    folder: Path
    creatives: np.ndarray
    skus: np.ndarray
    elements: RaggedArray
    ngrams: RaggedArray
    names: RaggedArray
    sku_names: RaggedArray
    attributes: RaggedArray
    content: np.ndarray

    def __len__(self) -> int:
        return self.creatives.size

    def __reduce__(self) -> tuple[Any, ...]:
        return Catalogue.load, (self.folder,)

    @property
    def content_dim(self) -> int:
        """Width of the content vectors; 0 when the catalogue has none."""
        return self.content.shape[1]

    def lookup(self, creatives: np.ndarray) -> np.ndarray:
        """Rows of hashed ids, int64; -1 where unknown."""
        return arrays.find(self.creatives, creatives)

    @classmethod
    def load(cls, folder: str | Path) -> Catalogue:
        """Map a catalogue written by `build_catalogue`.

        Raises:
            DataError: If a file is missing or damaged.
        """
        folder = Path(folder)
        creatives, skus, content = (arrays.load(folder, name) for name in ("creatives", "skus", "content"))
        ragged = {name: arrays.load_ragged(folder, name) for name in _RAGGED}
        return cls(folder, creatives, skus, **ragged, content=content)


def build_catalogue(creatives: str, folder: str | Path, embeddings: str | None = None, attributes: str | None = None) -> Catalogue:
    """Read the `creatives` table (pictures are skipped) and, when given, its `embeddings` and `attributes`.

    Memory holds the ids only; everything else passes through files, so the catalogue may be larger than memory.

    Args:
        creatives: Parquet file, folder or URI of the `creatives` table.
        folder: Where the catalogue goes; written atomically.
        embeddings: Parquet file, folder or URI of an `embeddings` table with vectors of one encoder.
        attributes: Parquet file, folder or URI of an `attributes` table with `tokens`.

    Raises:
        DataError: If a creative id occurs twice, embeddings differ in width or encoder, or a table beside the creatives holds
            nothing of them.
    """
    with replacing_folder(folder) as partial:
        order = _write_features(creatives, partial)
        _write_content(embeddings, order, partial)
        _write_attributes(attributes, order, partial)
        about = {"creatives": creatives, "embeddings": embeddings, "attributes": attributes, "rows": order.size}
        (partial / "catalogue.json").write_text(json.dumps(about))
    return Catalogue.load(folder)


def _write_features(source: str, folder: Path) -> np.ndarray:
    """Write everything but the content; returns the ascending hashed ids."""
    ids, skus = [], []
    spools = {name: _Spool(folder / f"{name}.raw", dtype) for name, dtype in _TEXTS.items()}
    for batch in read_batches(source, ["creative_id", "sku_id", "copy", "elements"], _READ_ROWS):
        ids.append(hash_strings(batch.column("creative_id")))
        skus.append(hash_strings(batch.column("sku_id")))
        spools["names"].append(arrays.utf8(batch.column("creative_id")))
        spools["sku_names"].append(arrays.utf8(batch.column("sku_id")))
        spools["elements"].append(_hash_elements(batch))
        spools["ngrams"].append(_ngrams(batch))
    all_ids = np.concatenate(ids) if ids else np.empty(0, np.int64)
    all_skus = np.concatenate(skus) if skus else np.empty(0, np.int64)
    order = np.argsort(all_ids, kind="stable")
    names = spools["names"].read()
    repeated = np.flatnonzero(np.diff(all_ids[order]) == 0)
    if repeated.size:
        name = names.take(order[repeated[:1]]).values.tobytes().decode()
        raise DataError(f"table {source}: creative_id {name!r} occurs twice", "keep one row per creative")
    arrays.save(folder, "creatives", all_ids[order])
    arrays.save(folder, "skus", all_skus[order])
    for name, spool in spools.items():
        _write_permuted(spool.read(), order, folder, name)
        spool.path.unlink()
    return all_ids[order]


def _write_permuted(source: RaggedArray, order: np.ndarray, folder: Path, name: str) -> None:
    lengths = np.diff(source.offsets)[order]
    offsets = offsets_of(lengths)
    np.save(folder / f"{name}.offsets.npy", offsets)
    path = folder / f"{name}.values.npy"
    if offsets[-1] == 0:
        np.save(path, np.empty(0, source.values.dtype))
        return
    out = np.lib.format.open_memmap(path, mode="w+", dtype=source.values.dtype, shape=(int(offsets[-1]),))
    for start in range(0, order.size, _PERMUTE_ROWS):
        rows = order[start : start + _PERMUTE_ROWS]
        places = flat_places(source.offsets[rows], lengths[start : start + _PERMUTE_ROWS])
        out[offsets[start] : offsets[min(start + _PERMUTE_ROWS, order.size)]] = source.values[places]
    out.flush()


def _write_content(source: str | None, creatives: np.ndarray, folder: Path) -> None:
    if source is None:
        arrays.save(folder, "content", np.zeros((creatives.size, 0), dtype=np.float16))
        return
    out: np.ndarray | None = None
    encoders: set[str] = set()
    found = creatives.size == 0
    for batch in read_batches(source, ["creative_id", "encoder", "vector"], _READ_ROWS):
        encoders.update(x for x in pc.unique(batch.column("encoder")).to_pylist() if x is not None)
        if len(encoders) > 1:
            raise DataError(f"table {source} holds vectors of encoders {sorted(encoders)}", "keep one encoder's vectors")
        vectors = _vectors(batch, source, None if out is None else out.shape[1])
        if out is None:
            out = np.lib.format.open_memmap(folder / "content.npy", mode="w+", dtype=np.float16, shape=(creatives.size, vectors.shape[1]))
        rows = arrays.find(creatives, hash_strings(batch.column("creative_id")))
        out[rows[rows >= 0]] = vectors[rows >= 0]
        found |= bool(np.any(rows >= 0))
    if out is None:
        raise DataError(f"table {source} holds no vector", "compute embeddings first, or drop data.embeddings")
    if not found:
        raise DataError(f"table {source} names none of the creatives", "embed these creatives, or drop data.embeddings")


def _write_attributes(source: str | None, creatives: np.ndarray, folder: Path) -> None:
    place = np.full(creatives.size, -1, dtype=np.int64)
    spool = _Spool(folder / "attributes.raw", np.int64)
    seen = 0
    for batch in read_batches(source, ["creative_id", "tokens"], _READ_ROWS) if source is not None else ():
        if "tokens" not in batch.schema.names:
            raise DataError(f"table {source} has no column 'tokens'", "extract the attributes again, or drop data.attributes")
        rows = arrays.find(creatives, hash_strings(batch.column("creative_id")))
        # A creative that was extracted twice keeps its last row.
        place[rows[rows >= 0]] = seen + np.flatnonzero(rows >= 0)
        seen += batch.num_rows
        tokens = batch.column("tokens")
        spool.append(RaggedArray(hash_strings(tokens.flatten()), offsets_of(pc.fill_null(pc.list_value_length(tokens), 0).to_numpy())))
    if source is not None and creatives.size and not np.any(place >= 0):
        raise DataError(f"table {source} names none of the creatives", "extract the attributes of these creatives, or drop data.attributes")
    arrays.save(folder, "attributes", spool.read().take(place))
    spool.path.unlink()


def _vectors(batch: pa.RecordBatch, source: str, width: int | None) -> np.ndarray:
    column = batch.column("vector")
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float16)
    width = width or (values.size // len(column))
    if width == 0 or not np.all(pc.fill_null(pc.list_value_length(column), 0).to_numpy() == width):
        raise DataError(f"table {source}: column 'vector' holds vectors of several widths", f"give each one of width {width}")
    if not np.isfinite(values).all():
        raise DataError(f"table {source}: column 'vector' holds values that are not finite", "compute these embeddings again")
    return values.reshape(-1, width)


def _hash_elements(batch: pa.RecordBatch) -> RaggedArray:
    if "elements" not in batch.schema.names:
        return RaggedArray(np.empty(0, np.int64), np.zeros(batch.num_rows + 1, np.int64))
    entry = pa.struct([("key", pa.string()), ("value", pa.string())])
    pairs = batch.column("elements").cast(pa.list_(entry))
    lengths = pc.fill_null(pc.list_value_length(pairs), 0).to_numpy()
    flat = pairs.flatten()
    offsets = offsets_of(lengths)
    joined = pc.binary_join_element_wise(pc.struct_field(flat, "key"), pc.fill_null(pc.struct_field(flat, "value"), ""), "=")
    return RaggedArray(hash_strings(joined), offsets)


def _ngrams(batch: pa.RecordBatch) -> RaggedArray:
    if "copy" not in batch.schema.names:
        return RaggedArray(np.empty(0, np.int64), np.zeros(batch.num_rows + 1, np.int64))
    return RaggedArray(*hash_ngrams(batch.column("copy")))


def read_batches(source: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Stream the given columns (those that exist) of a Parquet table.

    Raises:
        DataError: If the table cannot be opened or read.
    """
    try:
        dataset = pyarrow.dataset.dataset(source, format="parquet")
        wanted = [c for c in columns if c in dataset.schema.names]
        yield from (b for b in dataset.to_batches(columns=wanted, batch_size=rows) if b.num_rows)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"table {source} cannot be read: {error}", "check the path") from None


class _Spool:
    """Ragged rows appended to a raw file, then mapped."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self.path, self.dtype = path, dtype
        self._lengths: list[np.ndarray] = []
        path.touch()

    def append(self, rows: RaggedArray) -> None:
        self._lengths.append(np.diff(rows.offsets))
        with self.path.open("ab") as stream:
            stream.write(np.ascontiguousarray(rows.values, dtype=self.dtype).tobytes())

    def read(self) -> RaggedArray:
        lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, np.int64)
        offsets = offsets_of(lengths)
        empty = self.path.stat().st_size == 0
        return RaggedArray(np.empty(0, self.dtype) if empty else np.memmap(self.path, dtype=self.dtype, mode="r"), offsets)
