"""Streaming a Parquet table into batches whose order is a pure function of seed, epoch and step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa

from adray.data.bad_rows import BadRowsError
from adray.data.epoch_plan import EpochPlan, check_batch_arithmetic, rank_lanes
from adray.data.parquet import GroupReader, ParquetTable, check_columns, open_parquet
from adray.data.prefetch import prefetched
from adray.data.round_reader import Prepare, apply_prepare, cut, read_inline, read_with_ray
from adray.errors import ConfigError, DataError

B = TypeVar("B")
_log = logging.getLogger(__name__)


class TableStream(Generic[B]):
    """Training batches of one table; a `training.module.BatchSource`.

    The rows of (epoch, step) do not depend on the number of workers (see `epoch_plan`). Each epoch every row is used
    once, but for the at most `lanes - 1` rows that end its sequence, others in each epoch.

    Args:
        path: A Parquet file, folder, glob or URI.
        seed: Of the shuffle.
        batch_size: Rows of an optimizer step over all workers; a multiple of `lanes`.
        micro_batch_size: Rows of each batch yielded; times the workers it divides `batch_size`.
        lanes: Parallel read positions; a multiple of the workers.
        shuffle_rows: Rows permuted together, over all lanes; memory is about two to three times these rows. 0 keeps file order.
        columns: Columns to read; None reads all.
        collate: Rows to a batch. It may raise `BadRowsError`; those rows are then left out and counted.
        prepare: Work on rows before collate that, with the `ray` reader, runs in the reading tasks.
        reader: `inline` reads in a thread of this process, `ray` in Ray Data tasks.
        labels: Node labels that the `ray` reader's tasks need.
        prefetch: Batches held ready.

    Attributes:
        dropped_rows: Rows that collate refused so far, in this process.
    """

    def __init__(
        self,
        path: str,
        *,
        seed: int,
        batch_size: int,
        micro_batch_size: int,
        collate: Callable[[pa.Table], B],
        lanes: int = 8,
        shuffle_rows: int = 65536,
        columns: Sequence[str] | None = None,
        prepare: Prepare | None = None,
        reader: Literal["inline", "ray"] = "inline",
        labels: Mapping[str, str] | None = None,
        prefetch: int = 2,
    ) -> None:
        if reader not in ("inline", "ray"):
            raise ConfigError(f"reader is {reader!r}", "choose 'inline' or 'ray'")
        check_batch_arithmetic(batch_size, micro_batch_size, lanes, 1)
        self.path = path
        self.dropped_rows = 0
        self._plan_fields = (seed, batch_size, micro_batch_size, lanes, shuffle_rows)
        self._columns = list(columns) if columns is not None else None
        self._collate = collate
        self._prepare = prepare
        self._reader = reader
        self._labels = dict(labels) if labels else None
        self._prefetch = prefetch

    @cached_property
    def table(self) -> ParquetTable:
        """The table's footers, read when first needed."""
        table = open_parquet(self.path)
        check_columns(table, self._columns)
        return table

    @cached_property
    def plan(self) -> EpochPlan:
        """The arithmetic of an epoch."""
        return EpochPlan(tuple(group.rows for group in self.table.groups), *self._plan_fields)

    @property
    def rows(self) -> int:
        """Rows in the table."""
        return self.table.rows

    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch; the last may have fewer rows.

        Raises:
            DataError: If the table cannot be read or has too few rows for one step.
        """
        return self.plan.steps

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[B]:
        """This rank's batches from `first_step` to the end of the epoch.

        Args:
            epoch: From 0.
            first_step: The first optimizer step wanted; only the shuffle window it lies in is read in vain.
            rank: This worker.
            world_size: All workers.

        Returns:
            An iterator of `batch_size / (micro_batch_size * world_size)` batches for each optimizer step, of `micro_batch_size` rows
            each but in the epoch's last step. Closing it early stops its threads and tasks.

        Raises:
            ConfigError: If the sizes do not divide each other.
            DataError: If the table cannot be read, or none of a batch's rows can be used.
        """
        plan = self.plan
        check_batch_arithmetic(plan.batch_size, plan.micro_batch_size, plan.lanes, world_size)
        if not 0 <= rank < world_size or not 0 <= first_step <= plan.steps or epoch < 0:
            raise ConfigError(
                f"position epoch {epoch}, step {first_step} for rank {rank} of {world_size} is outside an epoch of {plan.steps} steps",
                "the table or the batch size changed since the checkpoint; start a new run",
            )
        lanes = rank_lanes(plan.lanes, rank, world_size)
        if self._reader == "ray":
            rows = read_with_ray(self.table, plan, self._columns, epoch, first_step, lanes, self._prepare, self._labels)
        else:
            rows = read_inline(self.table, plan, self._columns, epoch, first_step, lanes)
        return prefetched(self._make(rows, plan.micro_batch_rows(first_step, world_size)), self._prefetch)

    def _make(self, rows: Iterator[pa.Table], sizes: Iterator[int]) -> Iterator[B]:
        try:
            for part in cut(rows, sizes):
                if self._prepare is not None and self._reader == "inline":
                    part = apply_prepare(self._prepare, part)
                batch, dropped = collate_good_rows(self._collate, part, self.path)
                self.dropped_rows += dropped
                yield batch
        finally:
            rows.close()  # type: ignore[attr-defined]


def iterate(
    path: str,
    batch_rows: int,
    columns: Sequence[str] | None,
    collate: Callable[[pa.Table], B],
    prefetch: int = 2,
) -> Iterator[B]:
    """All rows of a table once, in file order, for evaluation.

    Args:
        path: A Parquet file, folder, glob or URI.
        batch_rows: Rows of each batch but the last.
        columns: Columns to read; None reads all.
        collate: Rows to a batch; may raise `BadRowsError`.
        prefetch: Batches held ready.

    Returns:
        An iterator of batches. Closing it early stops its thread.

    Raises:
        DataError: If the table cannot be read, or none of a batch's rows can be used.
    """
    table = open_parquet(path)
    check_columns(table, columns)
    sizes = (min(batch_rows, table.rows - start) for start in range(0, table.rows, batch_rows))

    def make() -> Iterator[B]:
        reader = GroupReader(table, columns)
        try:
            for part in cut((piece for group in table.groups for piece in reader.iterate(group, batch_rows)), sizes):
                yield collate_good_rows(collate, part, path)[0]
        finally:
            reader.close()

    return prefetched(make(), prefetch)


def collate_good_rows(collate: Callable[[pa.Table], B], rows: pa.Table, path: str) -> tuple[B, int]:
    """Collate, leaving out rows that collate refuses.

    Returns:
        The batch and the number of rows left out.

    Raises:
        DataError: If no row is left, or collate refuses rows again.
    """
    try:
        return collate(rows), 0
    except BadRowsError as bad:
        keep = np.ones(rows.num_rows, bool)
        keep[[row for row, _ in bad.rows]] = False
        if not keep.any():
            raise DataError(
                f"none of {rows.num_rows} rows of a batch of {path} can be used: {bad.rows[0][1]}", "look at the table"
            ) from None
        _log.warning("left out %d of %d rows of a batch of %s: %s", len(bad.rows), rows.num_rows, path, bad.rows[0][1])
        return collate(rows.filter(pa.array(keep))), int((~keep).sum())
