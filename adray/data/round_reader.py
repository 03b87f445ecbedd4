"""Reading the rounds of an epoch plan from Parquet, in this process or in Ray Data tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from adray.data.epoch_plan import EpochPlan
from adray.data.parquet import GroupReader, ParquetTable
from adray.errors import DataError

Prepare = Callable[[pa.Table], pa.Table]
"""Work on rows that may run far from the trainer, e.g. decoding pictures; keeps the number and order of rows."""


class RoundReader:
    """Loads rounds, keeping each lane's last row group: the next round begins in it.

    Memory: two rounds while one is used and the next is read, plus one row group per lane.
    """

    def __init__(self, table: ParquetTable, plan: EpochPlan, columns: Sequence[str] | None) -> None:
        self._table = table
        self._plan = plan
        self._groups = GroupReader(table, columns)
        self._last: dict[int, tuple[int, pa.Table]] = {}

    def load(self, epoch: int, round_index: int, lanes: Sequence[int]) -> pa.Table:
        """A round's rows of these lanes, one lane after the other, not yet permuted."""
        pieces = []
        for lane in lanes:
            for group, first, stop in self._plan.pieces(epoch, round_index, lane):
                last_group, rows = self._last.get(lane, (-1, None))
                if last_group != group:
                    rows = self._groups.read(self._table.groups[group])
                    self._last[lane] = (group, rows)
                pieces.append(rows.slice(first, stop - first))
        try:
            return pa.concat_tables(pieces, promote_options="permissive").combine_chunks()
        except pa.ArrowException as error:
            raise DataError(f"files of {self._table.path} disagree on their columns: {error}", "write them with one schema") from None

    def close(self) -> None:
        """Close all files and forget cached rows."""
        self._groups.close()
        self._last.clear()


def split_round(plan: EpochPlan, rows: pa.Table, epoch: int, round_index: int, lanes: Sequence[int], first_step: int) -> Iterator[pa.Table]:
    """A loaded round's rows in the order of their use, in tables of at most a micro-batch.

    Args:
        plan: The plan.
        rows: What `RoundReader.load` gave for this round and these lanes.
        epoch: The epoch.
        round_index: The round.
        lanes: The lanes.
        first_step: Steps of the epoch before this one are skipped.
    """
    order = plan.row_order(epoch, round_index, lanes)
    start = max(0, first_step - round_index * plan.round_steps) * plan.lane_batch * len(lanes)
    for first in range(start, len(order), plan.micro_batch_size):
        yield rows.take(pa.array(order[first : first + plan.micro_batch_size]))


def read_inline(
    table: ParquetTable, plan: EpochPlan, columns: Sequence[str] | None, epoch: int, first_step: int, lanes: Sequence[int]
) -> Iterator[pa.Table]:
    """Rows from `first_step` to the end of the epoch; the next round is read by a thread meanwhile."""
    rounds = range(first_step // plan.round_steps, plan.rounds)
    reader = RoundReader(table, plan, columns)
    with ThreadPoolExecutor(1, thread_name_prefix="adray-read") as pool:
        try:
            ahead = [pool.submit(reader.load, epoch, index, lanes) for index in rounds[:1]]
            for index in rounds:
                rows = ahead.pop().result()
                if index + 1 < plan.rounds:
                    ahead.append(pool.submit(reader.load, epoch, index + 1, lanes))
                yield from split_round(plan, rows, epoch, index, lanes, first_step)
        finally:
            pool.shutdown(cancel_futures=True)
            reader.close()


def read_with_ray(
    table: ParquetTable,
    plan: EpochPlan,
    columns: Sequence[str] | None,
    epoch: int,
    first_step: int,
    lanes: Sequence[int],
    prepare: Prepare | None = None,
    labels: Mapping[str, str] | None = None,
) -> Iterator[pa.Table]:
    """The same rows in the same order, each round read by a Ray Data task.

    Args:
        table: The table.
        plan: The plan.
        columns: Columns to read; None reads all.
        epoch: The epoch.
        first_step: The first optimizer step wanted.
        lanes: This rank's lanes.
        prepare: Applied in the task to each micro-batch's rows, after the shuffle: encoded rows are what is buffered.
        labels: Node labels that the tasks need, e.g. those of CPU nodes.
    """
    from adray.data.ray_tasks import stream_tasks

    def read(item: dict[str, Any]) -> Iterator[pa.Table]:
        reader = RoundReader(table, plan, columns)
        try:
            rows = reader.load(epoch, item["round"], lanes)
        finally:
            reader.close()
        for part in split_round(plan, rows, epoch, item["round"], lanes, first_step):
            yield part if prepare is None else apply_prepare(prepare, part)

    items = [{"round": index} for index in range(first_step // plan.round_steps, plan.rounds)]
    yield from stream_tasks(items, read, labels=labels)


def apply_prepare(prepare: Prepare, rows: pa.Table) -> pa.Table:
    """Run `prepare` and hold it to its contract.

    Raises:
        DataError: If it changed the number of rows; bad rows are marked there and dropped by collate.
    """
    prepared = prepare(rows)
    if prepared.num_rows != rows.num_rows:
        raise DataError(
            f"prepare made {prepared.num_rows} rows of {rows.num_rows}", "mark bad rows with null; collate drops them with BadRowsError"
        )
    return prepared


def cut(tables: Iterator[pa.Table], sizes: Iterator[int]) -> Iterator[pa.Table]:
    """Re-cut consecutive tables into tables of the given sizes; ends with the sizes."""
    waiting: list[pa.Table] = []
    have = 0
    for size in sizes:
        while have < size:
            table = next(tables)
            waiting.append(table)
            have += table.num_rows
        if len(waiting) == 1 and have == size:
            yield waiting.pop()
            have = 0
            continue
        joined = pa.concat_tables(waiting)
        yield joined.slice(0, size)
        waiting, have = ([joined.slice(size)], have - size) if have > size else ([], 0)
