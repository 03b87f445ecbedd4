"""Learning-rate schedules against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adray.training.config import TrainingConfig
from adray.training.schedule import lr_factor, warmup_steps


def test_warmup_is_a_share_or_a_number_of_steps():
    assert warmup_steps(TrainingConfig(warmup=0.1), 50) == 5
    assert warmup_steps(TrainingConfig(warmup=7), 50) == 7
    assert warmup_steps(TrainingConfig(warmup=70), 50) == 50
    assert warmup_steps(TrainingConfig(), 50) == 0


def test_warmup_rises_linearly_from_the_first_step():
    config = TrainingConfig(warmup=4)
    assert [lr_factor(config, step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_by_hand():
    config = TrainingConfig(schedule="cosine")
    assert lr_factor(config, 0, 8) == 1.0
    assert lr_factor(config, 2, 8) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert lr_factor(config, 4, 8) == pytest.approx(0.5)
    assert lr_factor(config, 6, 8) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    floor = TrainingConfig(schedule="cosine", final_lr_share=0.2)
    assert lr_factor(floor, 4, 8) == pytest.approx(0.6)
    assert lr_factor(floor, 8, 8) == pytest.approx(0.2)


def test_linear_by_hand_after_a_warmup():
    config = TrainingConfig(schedule="linear", warmup=2, final_lr_share=0.5)
    assert [lr_factor(config, step, 6) for step in range(6)] == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625])


@given(
    schedule=st.sampled_from(["constant", "cosine", "linear"]),
    warmup=st.one_of(st.floats(0, 0.99), st.integers(1, 30)),
    final=st.floats(0, 1),
    total=st.integers(1, 60),
)
def test_it_rises_then_never_again_and_stays_within_bounds(schedule, warmup, final, total):
    config = TrainingConfig(schedule=schedule, warmup=warmup, final_lr_share=final)
    factors = [lr_factor(config, step, total) for step in range(total)]
    peak = warmup_steps(config, total)
    assert all(0 < f <= 1 or (f == 0 and final == 0) for f in factors)
    assert factors[:peak] == sorted(factors[:peak])
    falling = factors[max(peak - 1, 0) :]
    assert all(a >= b - 1e-12 for a, b in zip(falling, falling[1:], strict=False))
