"""Making one standard table, part by part, in Ray Data tasks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from adray.data.adapters.grouping import Grouping, key_hashes
from adray.data.adapters.inputs import TableInput
from adray.data.hashing import hash_strings
from adray.data.quarantine import Lost, first_reason, quarantine_rows
from adray.data.ray_tasks import stream_tasks
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import QUARANTINE
from adray.data.sources import read_part
from adray.data.validate import Rules, split_rows

_BUCKET_BYTES = 32 * 2**20
"""Source bytes of a bucket of whole groups, which one task holds in memory."""
_MAX_BUCKETS = 256


@dataclass(frozen=True)
class TableJob:
    """One table to make.

    Attributes:
        table: What it is made of.
        rules: What its rows are held to; `known_creatives` is shared through Ray's object store.
        output: Folder of its `part-*.parquet`.
        quarantine: Folder of the quarantine, where its files begin with the table's name.
        row_group_rows: Rows of a row group.
    """

    table: TableInput
    rules: Rules
    output: Path
    quarantine: Path
    row_group_rows: int

    @property
    def name(self) -> str:
        """The table's name."""
        return self.rules.schema.name


@dataclass(frozen=True)
class IngestedTable:
    """What became of a table.

    Attributes:
        lost: Rows kept and quarantined.
        left_out: Source rows that the settings leave out (`data.drop_weeks`).
        part_keys: Hashed keys of each part's kept rows, in order (tables of things only, else empty).
        known_keys: Hashed keys of all rows, also of those quarantined: a creative whose picture is corrupt is lost alone,
            the impressions that name it are not.
    """

    lost: Lost
    left_out: int
    part_keys: dict[str, np.ndarray]
    known_keys: np.ndarray


def ingest_table(job: TableJob) -> IngestedTable:
    """Make the table.

    Raises:
        DataError: If a source file cannot be read.
    """
    source = job.table.source
    known = None if job.rules.known_creatives is None else ray.put(job.rules.known_creatives)
    job = replace(job, rules=replace(job.rules, known_creatives=None))
    items: list[dict[str, Any]] = [{"part": index} for index in range(len(source.parts))]
    grouping = job.table.grouping
    buckets_folder = job.output.with_name(f".{job.name}-buckets")
    left_out = 0
    if grouping is None:

        def work(item: dict[str, Any]) -> Iterator[pa.Table]:
            yield _write_part(job, known, item["part"], _adapted_rows(job, item["part"]))
    else:
        buckets = min(_MAX_BUCKETS, max(1, -(-source.size // _BUCKET_BYTES)))
        bucketed = list(stream_tasks(items, lambda item: _write_buckets(job, grouping, buckets_folder, buckets, item["part"])))
        left_out = sum(sum(rows["left_out"].to_pylist()) for rows in bucketed)
        items = [{"part": index} for index in range(buckets)]

        def work(item: dict[str, Any]) -> Iterator[pa.Table]:
            yield _write_part(job, known, item["part"], _grouped_rows(grouping, buckets_folder, item["part"]))

    done = _sum_up(job, list(stream_tasks(items, work)), left_out)
    shutil.rmtree(buckets_folder, ignore_errors=True)
    return done


_STATS = pa.schema(
    [
        ("part", pa.int64()),
        ("kept", pa.int64()),
        ("quarantined", pa.int64()),
        ("left_out", pa.int64()),
        ("first", pa.string()),
        ("keys", pa.list_(pa.int64())),
        ("lost_keys", pa.list_(pa.int64())),
    ]
)


_Piece = tuple[pa.Table, pa.Table, int]
"""Adapted rows, quarantine rows, and how many source rows the adapter left out."""


def _adapted_rows(job: TableJob, index: int) -> Iterator[_Piece]:
    """One part, a few thousand rows at a time."""
    source = job.table.source
    broken: list[tuple[str, str]] = []
    for rows in read_part(source, source.parts[index], lambda key, reason: broken.append((key, reason))):
        lost = quarantine_rows(job.name, "read", broken)
        broken.clear()
        adapted = job.table.adapted(rows)
        yield adapted, lost, rows.num_rows - adapted.num_rows
    if broken:
        yield job.rules.target.empty_table(), quarantine_rows(job.name, "read", broken), 0


def _write_buckets(job: TableJob, grouping: Grouping, folder: Path, buckets: int, index: int) -> Iterator[pa.Table]:
    """First half of a grouping: a part's rows, each to the bucket of its key."""
    writers: dict[int, pq.ParquetWriter] = {}
    lost = []
    left_out = 0
    try:
        for rows, broken, dropped in _adapted_rows(job, index):
            lost.append(broken)
            left_out += dropped
            if not rows.num_rows:
                continue
            bucket = (key_hashes(rows, grouping.keys) >> np.uint64(32)).astype(np.int64) * buckets >> 32
            for number in np.unique(bucket).tolist():
                if number not in writers:
                    path = folder / f"{number:05d}" / f"part-{index:05d}.parquet"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    writers[number] = pq.ParquetWriter(path, rows.schema)
                writers[number].write_table(rows.filter(pa.array(bucket == number)))
    finally:
        for writer in writers.values():
            writer.close()
    broken = pa.concat_tables(lost) if lost else QUARANTINE.required.empty_table()
    if broken.num_rows:
        path = folder / "broken" / f"part-{index:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(broken, path)
    yield pa.table({"part": [index], "left_out": [left_out]})


def _grouped_rows(grouping: Grouping, folder: Path, bucket: int) -> Iterator[_Piece]:
    """Second half: a bucket's whole groups, in the source's order."""
    none = QUARANTINE.required.empty_table()
    files = sorted((folder / f"{bucket:05d}").glob("*.parquet"))
    if files:
        rows = pa.concat_tables([pq.ParquetFile(file).read() for file in files], promote_options="permissive")
        yield grouping.make(rows.combine_chunks()), none, 0
    if bucket == 0:
        for file in sorted((folder / "broken").glob("*.parquet")):
            yield QUARANTINE.required.empty_table(), pq.ParquetFile(file).read(), 0


def _write_part(job: TableJob, known: ray.ObjectRef | None, index: int, pieces: Iterator[_Piece]) -> pa.Table:
    """Validate and write one part; returns its row of statistics."""
    rules = job.rules if known is None else replace(job.rules, known_creatives=ray.get(known))
    keyed = job.name != "impressions"
    good_path = job.output / f"part-{index:05d}.parquet"
    bad_path = job.quarantine / f"{job.name}-{index:05d}.parquet"
    keys: list[np.ndarray] = []
    lost_keys: list[np.ndarray] = []
    first = ""
    with (
        RowGroupWriter(good_path, rules.target, job.row_group_rows) as good_rows,
        RowGroupWriter(bad_path, QUARANTINE.required, job.row_group_rows) as bad_rows,
    ):
        start = left_out = 0
        for rows, broken, dropped in pieces:
            left_out += dropped
            good, bad = (rows, None) if not rows.num_rows else split_rows(rows, rules, f"part {index} from row {start}:")
            start += rows.num_rows
            for lost in (broken, bad):
                if lost is not None and lost.num_rows:
                    first = first or first_reason(lost)
                    bad_rows.write(lost)
                    lost_keys.append(hash_strings(lost.column("key")))
            if rows.num_rows:
                good_rows.write(good)
                if keyed:
                    keys.append(hash_strings(good.column(rules.schema.key)))
    stats = {
        "part": [index],
        "kept": [good_rows.written],
        "quarantined": [bad_rows.written],
        "left_out": [left_out],
        "first": [first],
        "keys": [np.concatenate(keys) if keys else np.zeros(0, np.int64)],
        "lost_keys": [np.concatenate(lost_keys) if keyed and lost_keys else np.zeros(0, np.int64)],
    }
    return pa.table(stats, schema=_STATS)


def _sum_up(job: TableJob, stats: list[pa.Table], left_out: int) -> IngestedTable:
    rows = pa.concat_tables(stats) if stats else _STATS.empty_table()
    part_keys = {}
    for part, keys in zip(rows["part"].to_pylist(), rows["keys"], strict=True):
        values = keys.values.to_numpy()
        if len(values):
            part_keys[f"part-{part:05d}.parquet"] = values
    lost_keys = [keys.values.to_numpy() for keys in rows["lost_keys"]]
    firsts = [text for text in rows["first"].to_pylist() if text]
    lost = Lost(job.name, sum(rows["kept"].to_pylist()), sum(rows["quarantined"].to_pylist()), firsts[0] if firsts else "")
    known = np.concatenate([np.zeros(0, np.int64), *part_keys.values(), *lost_keys])
    return IngestedTable(lost, left_out + sum(rows["left_out"].to_pylist()), part_keys, known)


def drop_repeats(job: TableJob, done: IngestedTable) -> IngestedTable:
    """Quarantine rows whose key appeared in an earlier part (within a part they are gone already); only such parts are rewritten."""
    names = list(done.part_keys)
    keys = np.concatenate([np.zeros(0, np.int64), *done.part_keys.values()])
    repeated = np.ones(len(keys), bool)
    repeated[np.unique(keys, return_index=True)[1]] = False
    if not repeated.any():
        return done
    ends = np.cumsum([len(done.part_keys[name]) for name in names])
    first = ""
    for name, flags in zip(names, np.split(repeated, ends[:-1]), strict=True):
        if not flags.any():
            continue
        path = job.output / name
        table = pq.ParquetFile(path).read()
        lost = table.filter(pa.array(flags)).column(job.rules.schema.key).to_pylist()
        bad = quarantine_rows(job.name, "rules", [(key, f"{job.rules.schema.key} appears before in another part") for key in lost])
        first = first or first_reason(bad)
        path.unlink()
        with RowGroupWriter(path, job.rules.target, job.row_group_rows) as writer:
            writer.write(table.filter(pa.array(~flags)))
        with RowGroupWriter(job.quarantine / f"{job.name}-again-{name[5:]}", QUARANTINE.required, job.row_group_rows) as writer:
            writer.write(bad)
    count = int(repeated.sum())
    lost_now = Lost(job.name, done.lost.kept - count, done.lost.quarantined + count, done.lost.first or first)
    return replace(done, lost=lost_now)
