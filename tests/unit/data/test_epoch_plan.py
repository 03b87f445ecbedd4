"""The epoch plan: which rows a step holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.data.epoch_plan import EpochPlan, check_batch_arithmetic, rank_lanes
from adray.errors import ConfigError, DataError


def rank_rows(plan: EpochPlan, epoch: int, first_step: int, rank: int, world_size: int) -> list[list[int]]:
    """Row numbers (in file order) of a rank's micro-batches, by walking the plan."""
    starts = np.concatenate([[0], np.cumsum(plan.group_rows)])
    lanes = rank_lanes(plan.lanes, rank, world_size)
    rows: list[int] = []
    for index in range(first_step // plan.round_steps, plan.rounds):
        loaded = np.concatenate([np.arange(starts[g] + a, starts[g] + b) for lane in lanes for g, a, b in plan.pieces(epoch, index, lane)])
        skip = max(0, first_step - index * plan.round_steps) * plan.lane_batch * len(lanes)
        rows += loaded[plan.row_order(epoch, index, lanes)][skip:].tolist()
    batches = []
    for size in plan.micro_batch_rows(first_step, world_size):
        batches.append(rows[:size])
        rows = rows[size:]
    assert rows == []
    return batches


def global_steps(plan: EpochPlan, epoch: int, world_size: int, first_step: int = 0) -> list[list[int]]:
    """Rows of each optimizer step, ranks one after the other."""
    count = plan.batch_size // plan.micro_batch_size // world_size
    ranks = [rank_rows(plan, epoch, first_step, r, world_size) for r in range(world_size)]
    assert all(batch for rank in ranks for batch in rank), "a micro-batch without rows"
    return [[row for rank in ranks for batch in rank[s * count : (s + 1) * count] for row in batch] for s in range(plan.steps - first_step)]


@st.composite
def plans(draw: st.DrawFn) -> EpochPlan:
    lanes = draw(st.sampled_from([4, 8]))
    micro = draw(st.integers(1, 3))
    # A multiple of lanes and of micro x 4, so that 1, 2 and 4 workers all fit.
    batch = int(np.lcm(lanes, micro * 4)) * draw(st.integers(1, 2))
    groups = draw(st.lists(st.integers(1, 40), min_size=1, max_size=12))
    groups.append(max(1, batch - sum(groups)))
    return EpochPlan(tuple(groups), draw(st.integers(0, 9)), batch, micro, lanes, draw(st.sampled_from([0, 1, 32, 100, 10**6])))


@settings(max_examples=150, deadline=None)
@given(plans(), st.integers(0, 3))
def test_every_row_once_and_the_same_for_any_number_of_workers(plan: EpochPlan, epoch: int) -> None:
    one = global_steps(plan, epoch, 1)
    assert one == global_steps(plan, epoch, 2) == global_steps(plan, epoch, 4)
    seen = [row for step in one for row in step]
    total = sum(plan.group_rows)
    assert len(set(seen)) == len(seen) and set(seen) <= set(range(total))
    if plan.batch_size // plan.micro_batch_size <= plan.lanes:
        assert total - len(seen) <= plan.lanes - 1
    else:
        assert total - len(seen) <= plan.lanes - 1 + plan.batch_size // plan.micro_batch_size - 1
    assert all(len(step) == plan.batch_size for step in one[:-1])


@settings(max_examples=60, deadline=None)
@given(plans(), st.data())
def test_resuming_gives_the_rest(plan: EpochPlan, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, plan.steps))
    assert global_steps(plan, 1, 2, step) == global_steps(plan, 1, 1)[step:]


def test_epochs_and_seeds_differ_and_no_shuffle_keeps_order() -> None:
    def rows(seed: int, epoch: int, shuffle: int) -> list[int]:
        plan = EpochPlan((50, 50, 60), seed, 8, 8, 4, shuffle)
        return [row for step in global_steps(plan, epoch, 1) for row in step]

    assert rows(0, 0, 64) == rows(0, 0, 64)
    assert len({tuple(rows(s, e, 64)) for s in (0, 1) for e in (0, 1)}) == 4
    # Four lanes of 40 rows, two rows of each a step.
    assert rows(0, 5, 0)[:8] == [0, 1, 40, 41, 80, 81, 120, 121]
    assert rows(0, 0, 0) == rows(1, 1, 0)


def test_lanes_rounds_and_row_groups_are_shuffled_apart() -> None:
    plan = EpochPlan((16,) * 32, 0, 64, 64, 4, 256)
    orders = [tuple(plan.row_order(0, r, [lane])) for r in range(2) for lane in range(4)]
    assert len(set(orders)) == 8
    assert sorted(plan.group_order(0)) == list(range(32))
    assert len({tuple(plan.group_order(e)) for e in range(4)} | {tuple(range(32))}) == 5


def test_rows_of_a_window_move_far() -> None:
    plan = EpochPlan((4096,), 0, 64, 64, 1, 4096)
    order = np.array([row for step in global_steps(plan, 0, 1) for row in step])
    # A uniform permutation moves a row by a third of the range on average.
    assert abs(np.abs(order - np.arange(4096)).mean() / 4096 - 1 / 3) < 0.02


def test_a_short_last_step_is_spread_over_its_micro_batches() -> None:
    plan = EpochPlan((30,), 0, 16, 4, 2, 16)
    assert plan.steps == 2
    assert [len(b) for b in rank_rows(plan, 0, 0, 0, 1)] == [4, 4, 4, 4, 3, 4, 3, 4]
    assert [len(b) for b in rank_rows(plan, 0, 0, 0, 2)] == [4, 4, 3, 4]


def test_a_last_step_too_short_for_its_micro_batches_is_left_out() -> None:
    # One row in each of 2 lanes cannot fill 4 micro-batches.
    assert EpochPlan((18,), 0, 16, 4, 2, 16).steps == 1
    assert EpochPlan((20,), 0, 16, 4, 2, 16).steps == 2


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((64, 8, 8, 3), "3 workers do not divide data.lanes 8; set data.lanes to a multiple, e.g. 9"),
        ((60, 4, 8, 1), "data.lanes 8 does not divide the batch size 60; set a batch size of 64"),
        ((64, 24, 8, 1), "micro-batch size 24 x 1 workers does not divide the batch size 64; set a batch size of 72"),
        ((0, 1, 1, 1), "batch size 0"),
    ],
)
def test_sizes_that_do_not_fit(sizes: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_batch_arithmetic(*sizes)


def test_too_few_rows() -> None:
    with pytest.raises(DataError, match="the table has 7 rows, too few for 8 lanes"):
        EpochPlan((7,), 0, 8, 8, 8, 0)
