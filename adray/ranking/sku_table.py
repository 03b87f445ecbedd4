"""What the training log says of each SKU and creative: counts, historical CTR, last seen features, number boundaries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from adray.data.batch import ImpressionBatch, Ragged
from adray.data.batch_from_arrow import impressions_to_batch
from adray.errors import DataError
from adray.files import replacing_folder
from adray.ranking import arrays
from adray.ranking.accumulate import Counts, LastSeen, Sample
from adray.ranking.arrays import RaggedArray
from adray.ranking.catalogue import read_batches
from adray.ranking.config import RankerModelConfig
from adray.ranking.history import block_edges, number_of_blocks, row_blocks, times_of, visible
from adray.ranking.tables import FieldValues, fit_boundaries

_READ_ROWS = 32_768
_FLAT = ("skus", "impressions", "clicks", "creatives", "creative_impressions", "creative_clicks")
_PAST = ("edges", "past_impressions", "past_clicks")


@dataclass(frozen=True)
class SkuTable:
    """S SKUs and C creatives of the training log. Pickles as its folder's path.

    Attributes:
        folder: Where the files lie.
        skus: int64 `[S]`, hashed ids, ascending.
        impressions: float64 `[S]`; clicks likewise.
        clicks: float64 `[S]`.
        creatives: int64 `[C]`, hashed ids, ascending; those exposed at least once.
        creative_impressions: float64 `[C]`, exposures.
        creative_clicks: float64 `[C]`.
        edges: int64 `[blocks - 1]`, where the log's blocks of time begin; see `adray.ranking.history`.
        past_impressions: float32 `[S, blocks]`, what a training row of each block may see; clicks likewise.
        past_clicks: float32 `[S, blocks]`.
        names: UTF-8 bytes of each SKU's id.
        fields: Last seen SKU feature columns: int64 or float32 `[S]` each, ragged for bags.
        boundaries: Quantile boundaries of each number column.
        prior: Pseudo impressions, at the global CTR, in every historical CTR.
    """

    folder: Path
    skus: np.ndarray
    impressions: np.ndarray
    clicks: np.ndarray
    creatives: np.ndarray
    creative_impressions: np.ndarray
    creative_clicks: np.ndarray
    edges: np.ndarray
    past_impressions: np.ndarray
    past_clicks: np.ndarray
    names: RaggedArray
    fields: dict[str, np.ndarray | RaggedArray]
    boundaries: dict[str, np.ndarray]
    prior: float

    def __reduce__(self) -> tuple[Any, ...]:
        return SkuTable.load, (self.folder,)

    @property
    def global_ctr(self) -> float:
        """Clicks over impressions of the whole training log."""
        return float(self.clicks.sum() / max(self.impressions.sum(), 1.0))

    def historical_ctr(self, skus: np.ndarray) -> np.ndarray:
        """Smoothed CTR over the whole log, `(k + a g) / (n + a)`; g, the global CTR, for a SKU never seen.

        Args:
            skus: int64 `[n]`, hashed ids.

        Returns:
            float32 `[n]`, in [0, 1].
        """
        rows = arrays.find(self.skus, skus)
        return self._smoothed(rows, _take(self.impressions, rows), _take(self.clicks, rows))

    def past_ctr(self, skus: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """Smoothed CTR as known to training rows of the given blocks; float32 `[n]`, in [0, 1].

        Args:
            skus: int64 `[n]`, hashed ids.
            blocks: int64 `[n]`, from `adray.ranking.history.row_blocks`.
        """
        rows = arrays.find(self.skus, skus)
        at = np.maximum(rows, 0)
        if self.skus.size == 0:
            return self._smoothed(rows, np.zeros(rows.size), np.zeros(rows.size))
        return self._smoothed(rows, self.past_impressions[at, blocks], self.past_clicks[at, blocks])

    def _smoothed(self, rows: np.ndarray, n: np.ndarray, k: np.ndarray) -> np.ndarray:
        n, k = np.where(rows >= 0, n, 0.0), np.where(rows >= 0, k, 0.0)
        return ((k + self.prior * self.global_ctr) / (n + self.prior)).astype(np.float32)

    def creative_counts(self, creatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Training exposures and clicks of hashed creative ids, float32 `[n]` each; 0 where never exposed."""
        rows = arrays.find(self.creatives, creatives)
        found = (np.where(rows >= 0, _take(a, rows), 0.0).astype(np.float32) for a in (self.creative_impressions, self.creative_clicks))
        impressions, clicks = found
        return impressions, clicks

    def values(self, skus: np.ndarray) -> FieldValues:
        """Last seen features of hashed SKU ids; null for SKUs never seen. `sku_id` is the id itself."""
        return take_fields(self.fields, arrays.find(self.skus, skus), skus)

    @classmethod
    def load(cls, folder: str | Path) -> SkuTable:
        """Map a table written by `build_sku_table`.

        Raises:
            DataError: If a file is missing or damaged.
        """
        folder = Path(folder)
        about = _read_json(folder / "sku_table.json")
        flat = {name: arrays.load(folder, name) for name in (*_FLAT, *_PAST)}
        boundaries = {name: np.asarray(values, dtype=np.float32) for name, values in about["boundaries"].items()}
        names, fields = arrays.load_ragged(folder, "names"), load_fields(folder)
        return cls(folder, **flat, names=names, fields=fields, boundaries=boundaries, prior=about["prior"])


def take_fields(fields: dict[str, np.ndarray | RaggedArray], rows: np.ndarray, skus: np.ndarray) -> FieldValues:
    """Rows of SKU feature columns as model input; row -1 is null, and `sku_id` is `skus` itself (int64 `[n]`)."""
    # A copy: the ids may be a read-only map, which no tensor may share.
    ids, numbers, bags = {"sku_id": torch.from_numpy(np.array(skus))}, {}, {}
    for name, column in fields.items():
        if isinstance(column, RaggedArray):
            lists = column.take(rows)
            bags[name] = Ragged(torch.from_numpy(lists.values), torch.from_numpy(lists.offsets))
        elif column.dtype == np.int64:
            ids[name] = torch.from_numpy(np.where(rows >= 0, _take(column, rows), 0))
        else:
            numbers[name] = torch.from_numpy(np.where(rows >= 0, _take(column, rows), np.float32(np.nan)).astype(np.float32))
    return FieldValues(rows.size, ids, numbers, bags)


def save_fields(folder: Path, fields: dict[str, np.ndarray | RaggedArray]) -> None:
    """Write SKU feature columns and `fields.json`, which says which file is which column."""
    # Numbered files: a column's name need not be a legal file name.
    for place, column in enumerate(fields.values()):
        arrays.save(folder, f"field{place}", column)
    layout = {name: "ragged" if isinstance(column, RaggedArray) else "flat" for name, column in fields.items()}
    (folder / "fields.json").write_text(json.dumps(layout))


def load_fields(folder: Path) -> dict[str, np.ndarray | RaggedArray]:
    """Map SKU feature columns written by `save_fields`."""
    fields: dict[str, np.ndarray | RaggedArray] = {}
    for place, (name, form) in enumerate(_read_json(folder / "fields.json").items()):
        read = arrays.load_ragged if form == "ragged" else arrays.load
        fields[name] = read(folder, f"field{place}")
    return fields


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "prepare the tables again") from None


def build_sku_table(impressions: str, folder: str | Path, config: RankerModelConfig) -> SkuTable:
    """Read the training impressions once.

    Args:
        impressions: Parquet file, folder or URI of the training rows; single exposures, aggregated lists or both.
        folder: Where the table goes; written atomically.
        config: Names the SKU fields and number columns to keep.

    Raises:
        DataError: If the table cannot be read, or a SKU field of the model is not among its columns.
    """
    wanted = sorted({f.name for half in (config.heavy, config.light) if half is not None for f in half.sku} - {"sku_id"})
    numbers = config.number_fields()
    edges = block_edges(*_time_span(impressions))
    columns = ["request_id", "sku_id", "candidates", "exposed", "clicked", "timestamp", *dict.fromkeys([*wanted, *numbers])]
    counts, creatives, seen, names = Counts(), Counts(), LastSeen(), LastSeen()
    per_block = [Counts() for _ in range(number_of_blocks(edges))]
    samples = {name: Sample() for name in numbers}
    for record in read_batches(impressions, columns, _READ_ROWS):
        batch = impressions_to_batch(pa.Table.from_batches([record]))
        skus = batch.ids["sku_id"].numpy()
        shown, n, k = own_counts(batch)
        sums = _list_sums(batch, n, k)
        counts.add(skus, *sums)
        blocks = row_blocks(record, edges)
        for block in np.unique(blocks):
            inside = blocks == block
            per_block[block].add(skus[inside], *(total[inside] for total in sums))
        creatives.add(batch.candidates.values.numpy()[shown], n[shown], k[shown])
        seen.add(skus, _times(record), {name: _feature(batch, name, impressions) for name in wanted})
        names.add(skus, np.zeros(skus.size, np.int64), {"names": arrays.utf8(record.column("sku_id"))})
        for name, sample in samples.items():
            if name in batch.numbers:
                sample.add(batch.numbers[name].numpy())
    boundaries = {name: fit_boundaries(sample.values, numbers[name]) for name, sample in samples.items()}
    with replacing_folder(folder) as partial:
        # `counts` and `seen` were fed the same keys, so their rows agree.
        for name, array in zip(_FLAT, (*counts.result(), *creatives.result()), strict=True):
            arrays.save(partial, name, array)
        for name, array in zip(_PAST, (edges, *_visible_counts(counts.result()[0], per_block, edges)), strict=True):
            arrays.save(partial, name, array)
        arrays.save(partial, "names", names.result().get("names", RaggedArray(np.empty(0, np.uint8), np.zeros(1, np.int64))))
        save_fields(partial, seen.result())
        about = {"boundaries": {name: found.tolist() for name, found in boundaries.items()}, "prior": config.history_prior}
        (partial / "sku_table.json").write_text(json.dumps(about))
    return SkuTable.load(folder)


def own_counts(batch: ImpressionBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each candidate row contributes: `(shown bool [m], impressions float64 [m], clicks float64 [m])`.

    A single exposure counts 1 for its exposed candidate, and its click; an aggregated list carries its own counts.
    """
    n = batch.impressions.numpy().astype(np.float64)
    k = batch.clicks.numpy().astype(np.float64)
    single = (batch.exposed >= 0).numpy() & ~batch.clicked.isnan().numpy()
    rows = batch.exposed_rows().numpy()[single]
    n[rows] += 1.0
    k[rows] += batch.clicked.numpy()[single]
    return n > 0, n, k


def _list_sums(batch: ImpressionBatch, n: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lists = batch.candidates.segments().numpy()
    return np.bincount(lists, n, len(batch)), np.bincount(lists, k, len(batch))


def _visible_counts(skus: np.ndarray, per_block: list[Counts], edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What rows of each block may see of every SKU's impressions and clicks, float32 `[S, blocks]` each."""
    within = np.zeros((2, skus.size, len(per_block)))
    for block, counts in enumerate(per_block):
        keys, *sums = counts.result()
        within[:, np.searchsorted(skus, keys), block] = sums
    impressions, clicks = (np.ascontiguousarray(visible(one, edges), dtype=np.float32) for one in within)
    return impressions, clicks


def _time_span(impressions: str) -> tuple[int | None, int | None]:
    """Earliest and latest time of the log, int64 milliseconds."""
    first, last = None, None
    for record in read_batches(impressions, ["timestamp"], _READ_ROWS):
        times = times_of(record)
        if times is None:
            continue
        low, high = pc.min_max(times).as_py().values()
        first, last = (low, high) if first is None or last is None else (min(first, low), max(last, high))
    return first, last


def _times(record: pa.RecordBatch) -> np.ndarray:
    times = times_of(record)
    return np.zeros(record.num_rows, np.int64) if times is None else pc.fill_null(times, 0).to_numpy()


def _feature(batch: ImpressionBatch, name: str, source: str) -> np.ndarray | RaggedArray:
    if name in batch.ids:
        return batch.ids[name].numpy()
    if name in batch.numbers:
        return batch.numbers[name].numpy()
    if name in batch.bags:
        return RaggedArray(batch.bags[name].values.numpy(), batch.bags[name].offsets.numpy())
    raise DataError(f"table {source} has no column {name!r}, a SKU field of the model", "take it out of the model or add the column")


def _take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`array[rows]` with row 0 in place of -1, also for an empty array."""
    return np.zeros(rows.shape, array.dtype) if array.size == 0 else array[np.maximum(rows, 0)]
