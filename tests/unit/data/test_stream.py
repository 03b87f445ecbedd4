"""Streaming a Parquet table inline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.data.bad_rows import BadRowsError
from adray.data.prefetch import prefetched
from adray.data.stream import TableStream, iterate
from adray.errors import ConfigError, DataError


def rows_of(table: pa.Table) -> list[int]:
    return table.column("row").to_pylist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """250 rows in three files of small row groups."""
    start = 0
    for part, rows in enumerate((100, 30, 120)):
        table = pa.table({"row": range(start, start + rows), "tags": [[f"t{i}"] * (i % 3) for i in range(start, start + rows)]})
        pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=16)
        start += rows
    return tmp_path


def stream(folder: Path, **changes: object) -> TableStream[list[int]]:
    settings: dict = {"seed": 3, "batch_size": 16, "micro_batch_size": 4, "lanes": 4, "shuffle_rows": 64, "collate": rows_of}
    return TableStream(str(folder), **(settings | changes))


def all_steps(source: TableStream[list[int]], epoch: int, world_size: int, first_step: int = 0) -> list[list[int]]:
    count = 4 // world_size
    ranks = [list(source.batches(epoch, first_step, r, world_size)) for r in range(world_size)]
    return [
        [row for rank in ranks for b in rank[s * count : (s + 1) * count] for row in b]
        for s in range(source.steps_per_epoch() - first_step)
    ]


def test_an_epoch_holds_every_row_once_for_any_workers(folder: Path) -> None:
    source = stream(folder)
    steps = all_steps(source, 0, 1)
    assert source.rows == 250 and source.steps_per_epoch() == len(steps) == 16
    assert steps == all_steps(source, 0, 2) == all_steps(source, 0, 4)
    seen = sorted(row for step in steps for row in step)
    assert len(set(seen)) == len(seen) == 248
    assert all_steps(source, 1, 1) != steps
    assert all_steps(stream(folder), 0, 1) == steps


@pytest.mark.parametrize("step", [0, 3, 4, 7, 15, 16])
def test_resume(folder: Path, step: int) -> None:
    assert all_steps(stream(folder), 2, 2, step) == all_steps(stream(folder), 2, 1)[step:]


def test_columns_rows_and_lists_stay_together(folder: Path) -> None:
    source = stream(folder, collate=lambda t: t)
    for table in source.batches(0, 0, 0, 1):
        assert all(tags == [f"t{row}"] * (row % 3) for row, tags in zip(rows_of(table), table.column("tags").to_pylist(), strict=True))
    assert next(stream(folder, collate=lambda t: t.column_names, columns=["row"]).batches(0, 0, 0, 1)) == ["row"]


def test_bad_rows_are_left_out_and_counted(folder: Path) -> None:
    def odd_only(table: pa.Table) -> list[int]:
        bad = [(i, f"{row} is divisible by 5") for i, row in enumerate(rows_of(table)) if row % 5 == 0]
        if bad:
            raise BadRowsError(bad)
        return rows_of(table)

    source = stream(folder, collate=odd_only)
    seen = [row for batch in source.batches(0, 0, 0, 1) for row in batch]
    expected = [row for batch in stream(folder).batches(0, 0, 0, 1) for row in batch]
    assert seen == [row for row in expected if row % 5]
    assert source.dropped_rows == len(expected) - len(seen) > 40


def test_a_batch_without_a_good_row_is_an_error(folder: Path) -> None:
    def none(table: pa.Table) -> list[int]:
        raise BadRowsError([(i, "broken") for i in range(table.num_rows)])

    with pytest.raises(DataError, match="none of 4 rows of a batch of .* can be used: broken"):
        next(stream(folder, collate=none).batches(0, 0, 0, 1))


def test_prepare_runs_before_collate_and_may_not_lose_rows(folder: Path) -> None:
    def double(table: pa.Table) -> pa.Table:
        return table.set_column(0, "row", pa.array([2 * r for r in rows_of(table)]))

    plain = list(stream(folder).batches(0, 0, 0, 1))
    assert list(stream(folder, prepare=double).batches(0, 0, 0, 1)) == [[2 * r for r in b] for b in plain]
    with pytest.raises(DataError, match="prepare made 1 rows of 4"):
        list(stream(folder, prepare=lambda t: t.slice(0, 1)).batches(0, 0, 0, 1))


def test_errors_of_the_thread_reach_the_consumer_and_threads_end(folder: Path) -> None:
    before = threading.active_count()
    source = stream(folder)
    batches = source.batches(0, 0, 0, 1)
    next(batches)
    batches.close()
    assert threading.active_count() == before

    def fail_late(table: pa.Table) -> list[int]:
        if 200 in rows_of(table):
            raise RuntimeError("row 200")
        return rows_of(table)

    with pytest.raises(RuntimeError, match="row 200"):
        list(stream(folder, collate=fail_late).batches(0, 0, 0, 1))
    assert threading.active_count() == before


def test_a_damaged_file_is_named(folder: Path) -> None:
    source = stream(folder)
    assert source.rows == 250
    file = folder / "part-1.parquet"
    content = bytearray(file.read_bytes())
    content[4:200] = b"\xff" * 196
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"row group 0 of .*part-1.parquet cannot be read"):
        list(source.batches(0, 0, 0, 1))


def test_wrong_uses_are_one_line(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'rows'; did you mean 'row'\?"):
        stream(folder, columns=["rows"]).steps_per_epoch()
    with pytest.raises(DataError, match=r"does not exist; did you mean part-0.parquet\?"):
        stream(folder / "part-00.parquet").steps_per_epoch()
    with pytest.raises(ConfigError, match="3 workers do not divide data.lanes 4"):
        stream(folder).batches(0, 0, 0, 3)
    with pytest.raises(ConfigError, match="outside an epoch of 16 steps"):
        stream(folder).batches(0, 17, 0, 1)
    with pytest.raises(ConfigError, match="data.lanes 3 does not divide the batch size 16"):
        stream(folder, lanes=3)
    (folder / "part-0.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"part-0.parquet is not a readable Parquet file"):
        stream(folder).steps_per_epoch()


def test_iterate_reads_in_order(folder: Path) -> None:
    batches = list(iterate(str(folder), 60, ["row"], rows_of))
    assert [len(b) for b in batches] == [60, 60, 60, 60, 10]
    assert [row for b in batches for row in b] == list(range(250))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_prefetched_closes_its_source(depth: int) -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    items = prefetched(numbers(), depth)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert closed.is_set()
    assert list(prefetched(numbers(), depth)) == list(range(1000))
