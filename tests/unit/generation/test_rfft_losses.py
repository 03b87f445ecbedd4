from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adray.generation.rfft.losses import available_loss, consistent_condition, refl_loss, teacher_distance
from adray.generation.schedule import make_scheduler
from tests.helpers.tiny_generator import tiny_components

SCHEDULER = make_scheduler(tiny_components().scheduler, "ddim", 40)
TIMESTEP = SCHEDULER.timesteps[33]


def outputs(seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))


def test_the_feedback_loss_is_the_cross_entropy_to_available_and_raises_its_probability():
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0, 0.0]], requires_grad=True)
    expected = -(math.log(math.e / (math.e + 4)) + math.log(1 / (math.e**2 + 4))) / 2
    loss = available_loss(logits)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    stepped = (logits - 0.1 * logits.grad).softmax(dim=1)
    assert (stepped[:, 0] > logits.softmax(dim=1)[:, 0]).all()


def test_refl_is_a_hinge_on_the_log_odds():
    # Log-odds of available: log(e^1 / 4) and log(e^9 / 4).
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0, 0.0]])
    assert float(refl_loss(logits)) == pytest.approx(1e-3 * (2 - (1 - math.log(4))) / 2, rel=1e-5)
    assert float(refl_loss(logits[1:])) == 0.0


@pytest.mark.parametrize("form", ["difference", "score"])
def test_at_the_start_both_regularisers_are_zero(form):
    student = outputs(0)
    assert float(consistent_condition(student, student, SCHEDULER, TIMESTEP, form)) == 0.0
    assert float(teacher_distance(student[1], student[1], SCHEDULER, TIMESTEP)) == 0.0


@pytest.mark.parametrize("form", ["difference", "score"])
@given(seed=st.integers(0, 1000), shift=st.floats(0.1, 3.0))
def test_a_change_of_both_branches_costs_nothing_but_to_the_distance(form, seed, shift):
    teacher = outputs(seed)
    field = shift * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed + 1))
    student = (teacher[0] + field, teacher[1] + field)
    assert float(consistent_condition(student, teacher, SCHEDULER, TIMESTEP, form)) < 1e-5
    assert float(teacher_distance(student[1], teacher[1], SCHEDULER, TIMESTEP)) == pytest.approx(float(field.square().mean()), rel=1e-4)


@given(seed=st.integers(0, 1000))
def test_the_two_published_forms_by_hand(seed):
    teacher, student = outputs(seed), outputs(seed + 1)
    moved = (student[1] - student[0]) - (teacher[1] - teacher[0])
    assert float(consistent_condition(student, teacher, SCHEDULER, TIMESTEP)) == pytest.approx(
        float((moved**2).sum()) / moved.numel(), rel=1e-5
    )
    level = float(SCHEDULER.alphas_cumprod[TIMESTEP])
    lengths = [float((row**2).sum()) ** 0.5 / (1 - level) ** 0.5 for row in moved]
    assert float(consistent_condition(student, teacher, SCHEDULER, TIMESTEP, "score")) == pytest.approx(sum(lengths) / 2, rel=1e-4)


def test_scaling_the_text_branch_alone_costs():
    teacher = outputs(3)
    assert float(consistent_condition((teacher[0], 1.1 * teacher[1]), teacher, SCHEDULER, TIMESTEP)) > 1e-3


def test_the_score_form_has_a_gradient_where_student_and_teacher_are_one():
    teacher = outputs(4)
    student = tuple(t.clone().requires_grad_(True) for t in teacher)
    consistent_condition(student, teacher, SCHEDULER, TIMESTEP, "score").backward()
    assert torch.isfinite(student[0].grad).all()
