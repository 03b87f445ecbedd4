"""Which rows a training step holds: pure functions of (table, seed, epoch, step).

The row groups of an epoch, in seeded order, are one virtual sequence of N rows. Lane l of L owns the contiguous rows
[l n, (l + 1) n) with n = floor(N / L). A lane is cut into windows; a window's rows are permuted. Optimizer step s takes
the lane's next B / L permuted rows from every lane. Rank r of W reads the lanes [r L / W, (r + 1) L / W). Nothing here depends on W
but which lanes a rank reads, so a run may be resumed with another number of workers.

All lanes have equally many rows and equal windows, so the windows of one index form a *round*: a whole number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adray.errors import ConfigError, DataError

_IN_ORDER_ROUND_ROWS = 16384
"""Rows read at a time when nothing is shuffled."""


@dataclass(frozen=True)
class EpochPlan:
    """The arithmetic of one table, batch size and lane count.

    Attributes:
        group_rows: Rows of each row group, in file order.
        seed: Of all shuffling.
        batch_size: Rows of an optimizer step over all workers (B).
        micro_batch_size: Rows that one worker puts through the model at once.
        lanes: L.
        shuffle_rows: Rows that are permuted together, over all lanes; 0 keeps file order within a lane.
    """

    group_rows: tuple[int, ...]
    seed: int
    batch_size: int
    micro_batch_size: int
    lanes: int
    shuffle_rows: int

    def __post_init__(self) -> None:
        check_batch_arithmetic(self.batch_size, self.micro_batch_size, self.lanes, 1)
        if self.lane_rows == 0 or self.steps == 0:
            raise DataError(
                f"the table has {sum(self.group_rows)} rows, too few for {self.lanes} lanes and batch size {self.batch_size}",
                "lower data.lanes or the batch size, or give more rows",
            )

    @cached_property
    def lane_rows(self) -> int:
        """Rows of each lane (n); the last N - L n <= L - 1 rows of the epoch's sequence are left out."""
        return sum(self.group_rows) // self.lanes

    @property
    def lane_batch(self) -> int:
        """Rows of a step in each lane."""
        return self.batch_size // self.lanes

    @cached_property
    def steps(self) -> int:
        """Optimizer steps of an epoch.

        The last one may have fewer rows. It is left out only when it could not give each of its B / micro_batch_size
        micro-batches a row, which cannot happen while there are at most L of them.
        """
        full, rest = divmod(self.lane_rows, self.lane_batch)
        return full + (rest > 0 and rest * self.lanes >= self.batch_size // self.micro_batch_size)

    @property
    def round_steps(self) -> int:
        """Steps of a round: the shuffle window rounded to whole steps, at least one."""
        return max(1, (self.shuffle_rows or _IN_ORDER_ROUND_ROWS) // self.batch_size)

    @property
    def rounds(self) -> int:
        """Rounds of an epoch."""
        return -(-self.steps // self.round_steps)

    def group_order(self, epoch: int) -> np.ndarray:
        """int64 `[groups]`, the row groups' order in this epoch."""
        if self.shuffle_rows == 0:
            return np.arange(len(self.group_rows))
        return _random(self.seed, epoch).permutation(len(self.group_rows))

    def round_rows(self, round_index: int) -> int:
        """Rows of each lane in a round."""
        start = round_index * self.round_steps * self.lane_batch
        stop = min(start + self.round_steps * self.lane_batch, self.lane_rows, self.steps * self.lane_batch)
        return max(0, stop - start)

    def pieces(self, epoch: int, round_index: int, lane: int) -> Iterator[tuple[int, int, int]]:
        """Where a lane's rows of a round lie: (row group, first row, end row) in the epoch's order."""
        order = self.group_order(epoch)
        ends = np.cumsum(np.asarray(self.group_rows, np.int64)[order])
        start = lane * self.lane_rows + round_index * self.round_steps * self.lane_batch
        stop = start + self.round_rows(round_index)
        position = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            group = int(order[position])
            first = start - (int(ends[position]) - self.group_rows[group])
            taken = min(stop - start, self.group_rows[group] - first)
            yield group, first, first + taken
            start += taken
            position += 1

    def row_order(self, epoch: int, round_index: int, lanes: Sequence[int]) -> np.ndarray:
        """The order in which a round's rows are used.

        Args:
            epoch: The epoch.
            round_index: The round.
            lanes: The lanes read, whose rows lie one lane after the other.

        Returns:
            int64 `[len(lanes) * round_rows]`: indices into those rows, step by step and, within a step, lane by lane.
        """
        rows = self.round_rows(round_index)
        order = np.empty((len(lanes), rows), np.int64)
        for place, lane in enumerate(lanes):
            within = np.arange(rows) if self.shuffle_rows == 0 else _random(self.seed, epoch, lane, round_index).permutation(rows)
            order[place] = within + place * rows
        whole = rows // self.lane_batch * self.lane_batch
        steps = order[:, :whole].reshape(len(lanes), -1, self.lane_batch).transpose(1, 0, 2)
        return np.concatenate([steps.ravel(), order[:, whole:].ravel()])

    def micro_batch_rows(self, first_step: int, world_size: int) -> Iterator[int]:
        """Rows of each of a rank's micro-batches, from `first_step` to the end of the epoch."""
        count = self.batch_size // self.micro_batch_size // world_size
        for step in range(first_step, self.steps):
            lane_rows = min(self.lane_batch, self.lane_rows - step * self.lane_batch)
            rows = lane_rows * self.lanes // world_size
            # Sizes of a short last step differ by at most one row.
            yield from (rows * (i + 1) // count - rows * i // count for i in range(count))


def rank_lanes(lanes: int, rank: int, world_size: int) -> range:
    """The lanes that a rank reads."""
    each = lanes // world_size
    return range(rank * each, (rank + 1) * each)


def check_batch_arithmetic(batch_size: int, micro_batch_size: int, lanes: int, world_size: int) -> None:
    """Refuse sizes that do not divide each other.

    Raises:
        ConfigError: Naming the two sizes and the nearest that fit.
    """
    if batch_size < 1 or micro_batch_size < 1 or lanes < 1 or world_size < 1:
        raise ConfigError(
            f"batch size {batch_size}, micro-batch size {micro_batch_size}, lanes {lanes}, workers {world_size}", "each must be >= 1"
        )
    if lanes % world_size:
        raise ConfigError(
            f"{world_size} workers do not divide data.lanes {lanes}",
            f"set data.lanes to a multiple, e.g. {world_size * -(-lanes // world_size)}",
        )
    if batch_size % lanes:
        raise ConfigError(
            f"data.lanes {lanes} does not divide the batch size {batch_size}", f"set a batch size of {_multiple(batch_size, lanes)}"
        )
    step = micro_batch_size * world_size
    if batch_size % step:
        raise ConfigError(
            f"micro-batch size {micro_batch_size} x {world_size} workers does not divide the batch size {batch_size}",
            f"set a batch size of {_multiple(batch_size, step)}",
        )


def _multiple(size: int, of: int) -> int:
    return max(of, round(size / of) * of)


def _random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
