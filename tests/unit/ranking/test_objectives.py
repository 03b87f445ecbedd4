"""Golden values by hand, the properties each loss must have, and an independent dense implementation with padding."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.ranking import objectives as o
from adray.ranking.objectives.listwise import exposure_probability
from adray.ranking.ragged import Lists, list_mean, segment_log_softmax, segment_logsumexp


def lists_of(*lengths: int) -> Lists:
    return Lists.from_offsets(torch.tensor([0, *lengths]).cumsum(0))


def f(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- golden values -------------------------------------------------------------------------------------------------


def test_click_loss_by_hand():
    # s(0) = 1/2; s(ln 3) = 3/4.
    assert torch.allclose(o.click_loss(f(0.0, math.log(3), math.log(3)), f(1, 1, 0)), f(math.log(2), math.log(4 / 3), math.log(4)))


def test_exposure_loss_by_hand():
    # softmax(0, ln 3) = (1/4, 3/4); the second list has one item.
    loss = o.exposure_loss(f(0.0, math.log(3), 5.0), lists_of(2, 1), torch.tensor([1, 2]))
    assert torch.allclose(loss, f(math.log(4 / 3), 0.0))


def test_click_list_loss_by_hand():
    # pi = (1/4, 3/4), s(z) = (3/4, 1/2): joint (3/16, 6/16), so p(c = 0 | click) = 1/3.
    exposure, click = f(0.0, math.log(3)), f(math.log(3), 0.0)
    rows = torch.tensor([0])
    assert torch.allclose(o.click_list_loss(exposure, click, f(1), lists_of(2), rows), f(math.log(3)))
    assert o.click_list_loss(exposure, click, f(0), lists_of(2), rows).item() == 0.0


def test_shown_offset_by_hand():
    # pi = (1/4, 3/4), s(z) = (3/4, 1/2): the average chance is 9/16, i.e. odds of 9/7, against odds of 3 of what was shown.
    log_policy, click = f(0.0, math.log(3), 1.0), f(math.log(3), 0.0, 5.0)
    assert torch.allclose(o.shown_offset(log_policy, click, lists_of(2, 1), torch.tensor([0, 2])), f(math.log(3 * 7 / 9), 0.0))


def test_vam_by_hand():
    ctr = o.smoothed_ctr(f(100, 0), f(10, 0), alpha=2.0, beta=18.0)
    assert torch.allclose(ctr, f(12 / 120, 0.1))
    # Equal CTRs: uniform targets; softmax(0, ln 3) = (1/4, 3/4).
    loss = o.vam_list_loss(f(0.0, math.log(3)), f(0.1, 0.1), lists_of(2), temperature=1000.0)
    assert torch.allclose(loss, f(-0.5 * math.log(1 / 4) - 0.5 * math.log(3 / 4)))
    assert torch.allclose(o.vam_point_loss(f(3.0, 5.0, 1.0), f(0.01, 0.02, 0.03), lists_of(2, 1)), f((4 + 9) / 2, 4.0))


def test_vam_targets_are_sharp_at_the_papers_temperature():
    # A CTR one point higher weighs e^10 times as much, so the loss is that of the better item alone.
    loss = o.vam_list_loss(f(0.0, math.log(3)), f(0.02, 0.03), lists_of(2), temperature=1000.0)
    assert loss.item() == pytest.approx(math.log(4 / 3), abs=1e-4)


def test_jrc_by_hand():
    # One session with a click and a non-click, all logits zero: CE = ln 2 and rank = softplus(0) = ln 2 for both.
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    assert torch.allclose(o.jrc_loss(zeros, f(1, 0), torch.tensor([7, 7]), alpha=0.3), f(math.log(2), math.log(2)))
    # The clicked item competes in b (1 against 0 and 0): -log(e / (e + 2)); each other item in a (0 against the clicked 2).
    logits = f(2, 1, 0, 0, 0, 0).reshape(3, 2)
    rank = o.jrc_loss(logits, f(1, 0, 0), torch.tensor([1, 1, 1]), alpha=0.0)
    negative = math.log(1 + math.exp(2))
    assert torch.allclose(rank, f(math.log((math.e + 2) / math.e), negative, negative))


def test_clid_by_hand():
    # Probabilities (3/4, 1/4) of the teacher and (1/2, 1/2) of the student: cross-entropy ln 2.
    loss = o.clid_loss(f(0.0, 0.0), f(math.log(3), -math.log(3)), lists_of(2))
    assert torch.allclose(loss, f(math.log(2)))


def test_multinomial_by_hand():
    # n = (1, 3), equal scores: p = (1/4, 3/4).
    loss = o.multinomial_loss(f(0.0, 0.0), f(1, 3), f(2, 1), lists_of(2))
    assert torch.allclose(loss, f(2 * math.log(4) + math.log(4 / 3)))


def test_multinomial_leaves_out_candidates_without_impressions():
    scores = f(0.3, 9.0, -0.2).requires_grad_()
    loss = o.multinomial_loss(scores, f(10, 0, 20), f(1, 0, 2), lists_of(3))
    without = o.multinomial_loss(f(0.3, -0.2), f(10, 20), f(1, 2), lists_of(2))
    assert torch.allclose(loss, without)
    loss.sum().backward()
    assert torch.isfinite(scores.grad).all() and scores.grad[1] == 0
    empty = o.multinomial_loss(scores, f(0, 0, 0), f(0, 0, 0), lists_of(3))
    assert empty.item() == 0.0


def test_multinomial_ignores_the_lists_level_and_binomial_does_not():
    n, k, lists = f(100, 200), f(3, 9), lists_of(2)
    assert torch.allclose(o.multinomial_loss(f(0.1, 0.4), n, k, lists), o.multinomial_loss(f(5.1, 5.4), n, k, lists))
    assert not torch.allclose(o.binomial_loss(f(0.1, 0.4), n, k, lists), o.binomial_loss(f(5.1, 5.4), n, k, lists))


def test_binomial_is_the_click_loss_of_every_impression():
    logits = f(-1.0, 0.5)
    expected = 2 * o.click_loss(logits, f(1, 1))[0] + 3 * o.click_loss(logits, f(0, 0))[0] + 1 * o.click_loss(logits, f(1, 1))[1]
    assert torch.allclose(o.binomial_loss(logits, f(5, 1), f(2, 1), lists_of(2)), expected.reshape(1))


def test_list_mean_counts_only_what_is_counted():
    assert list_mean(f(1, 100, 3), torch.tensor([True, False, True])).item() == 2.0
    assert list_mean(f(1, 2), torch.tensor([False, False])).item() == 0.0


# ---- a dense implementation with padding, written independently ------------------------------------------------------


def padded(values: torch.Tensor, lists: Lists, fill: float) -> torch.Tensor:
    longest = int(lists.lengths.max())
    parts = torch.split(values, lists.lengths.tolist())
    return torch.stack([F.pad(part, (0, longest - part.numel()), value=fill) for part in parts])


@st.composite
def cases(draw):
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    torch.manual_seed(draw(st.integers(0, 10_000)))
    lists, m, n = lists_of(*lengths), sum(lengths), len(lengths)
    exposed = (torch.rand(n) * lists.lengths).long()
    return {
        "lists": lists,
        "u": torch.randn(m, dtype=torch.float64) * 3,
        "z": torch.randn(m, dtype=torch.float64) * 3,
        "teacher": torch.randn(m, dtype=torch.float64) * 3,
        "clicked": (torch.rand(n) < 0.5).double(),
        "index": exposed,
        "rows": lists.lengths.cumsum(0) - lists.lengths + exposed,
        "n": torch.randint(0, 50, (m,)).double(),
    }


@settings(max_examples=60, deadline=None)
@given(cases())
def test_list_losses_agree_with_dense_padding(case):
    lists, index = case["lists"], case["index"].unsqueeze(1)
    minus = float("-inf")
    several = (lists.lengths > 1).double()
    u, z, teacher = (padded(case[k], lists, minus) for k in ("u", "z", "teacher"))
    log_pi = u.log_softmax(1)
    dense_exposure = -log_pi.gather(1, index)[:, 0]
    assert torch.allclose(o.exposure_loss(case["u"], lists, case["rows"]), dense_exposure * several)
    joint = log_pi.exp() * z.sigmoid()
    share = joint.gather(1, index)[:, 0] / joint.sum(1)
    dense_click = -case["clicked"] * share.log()
    assert torch.allclose(o.click_list_loss(case["u"], case["z"], case["clicked"], lists, case["rows"]), dense_click * several, atol=1e-9)
    q_student, q_teacher = (x.sigmoid() / x.sigmoid().sum(1, keepdim=True) for x in (z, teacher))
    dense_clid = -(q_teacher * q_student.clamp(min=1e-300).log()).sum(1)
    assert torch.allclose(o.clid_loss(case["z"], case["teacher"], lists), dense_clid * several, atol=1e-9)
    ctr = torch.rand(case["u"].numel(), dtype=torch.float64) * 0.01
    target = (1000 * padded(ctr, lists, minus)).softmax(1)
    dense_vam = -(target * z.log_softmax(1).clamp(min=-1e300)).sum(1)
    assert torch.allclose(o.vam_list_loss(case["z"], ctr, lists, 1000.0), dense_vam * several)
    assert torch.allclose(padded(exposure_probability(case["u"], lists), lists, 0.0), u.softmax(1))


@settings(max_examples=40, deadline=None)
@given(cases(), st.integers(0, 1000))
def test_a_lists_loss_knows_neither_its_order_nor_its_neighbours(case, seed):
    lists, n = case["lists"], len(case["lists"])
    whole = o.click_list_loss(case["u"], case["z"], case["clicked"], lists, case["rows"]) + o.clid_loss(case["z"], case["teacher"], lists)
    whole = whole + o.exposure_loss(case["u"], lists, case["rows"])
    torch.manual_seed(seed)
    starts = (lists.lengths.cumsum(0) - lists.lengths).tolist()
    for i in range(n):
        length = int(lists.lengths[i])
        shuffled = torch.randperm(length)
        rows = starts[i] + shuffled
        row = (shuffled == case["index"][i]).nonzero()[0]
        alone, u, z = lists_of(length), case["u"][rows], case["z"][rows]
        own = o.click_list_loss(u, z, case["clicked"][i : i + 1], alone, row) + o.clid_loss(z, case["teacher"][rows], alone)
        own = own + o.exposure_loss(u, alone, row)
        assert torch.allclose(own, whole[i : i + 1])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-8, 3), min_size=2, max_size=9), st.integers(0, 1000))
def test_the_policys_average_of_what_the_offset_explains_is_the_ads_own_chance(logits, seed):
    torch.manual_seed(seed)
    z, policy = f(*logits), torch.randn(len(logits), dtype=torch.float64)
    pi, lists = policy.softmax(0), lists_of(len(logits))
    ad = (pi * z.sigmoid()).sum().logit()
    shown = torch.stack([ad + o.shown_offset(policy + 3.0, z, lists, torch.tensor([e])) for e in range(len(logits))]).squeeze(1)
    assert torch.allclose(shown, z, atol=1e-6)


def test_the_offset_sends_nothing_back():
    z, policy = f(0.3, -1.0).requires_grad_(), f(0.1, 0.2).requires_grad_()
    assert not o.shown_offset(policy, z, lists_of(2), torch.tensor([1])).requires_grad


def test_lists_of_one_carry_no_order():
    lists, one = lists_of(1, 1), f(0.7, -2.0)
    rows, clicked = torch.tensor([0, 1]), f(1, 0)
    for loss in (
        o.exposure_loss(one, lists, rows),
        o.click_list_loss(one, one, clicked, lists, rows),
        o.vam_list_loss(one, f(0.1, 0.2), lists, 1000.0),
        o.clid_loss(one, f(3.0, 1.0), lists),
        o.multinomial_loss(one, f(5, 5), f(1, 2), lists),
    ):
        assert loss.tolist() == [0.0, 0.0]
    assert (o.click_loss(one, clicked) > 0).all()


# ---- JRC -------------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(0, 1000))
def test_jrc_of_sessions_of_one_is_alpha_times_the_click_loss(alpha, seed):
    torch.manual_seed(seed)
    logits, clicked = torch.randn(6, 2, dtype=torch.float64), (torch.rand(6) < 0.5).double()
    expected = alpha * o.click_loss(logits[:, 1] - logits[:, 0], clicked)
    assert torch.allclose(o.jrc_loss(logits, clicked, torch.arange(6) * 17 - 40, alpha), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_jrc_agrees_with_a_pairwise_loop(seed):
    torch.manual_seed(seed)
    n = 12
    logits, clicked, sessions = torch.randn(n, 2, dtype=torch.float64) * 2, (torch.rand(n) < 0.4).double(), torch.randint(0, 3, (n,))
    expected = []
    for i in range(n):
        column = 1 if clicked[i] else 0
        rivals = [j for j in range(n) if sessions[j] == sessions[i] and clicked[j] != clicked[i]]
        below = logits[i, column].exp() + sum(logits[j, column].exp() for j in rivals)
        ce = -(logits[i].log_softmax(0)[column])
        expected.append(0.4 * ce - 0.6 * (logits[i, column].exp() / below).log())
    assert torch.allclose(o.jrc_loss(logits, clicked, sessions, 0.4), torch.stack(expected))


def test_jrc_items_of_one_label_do_not_compete():
    logits = torch.randn(4, 2, dtype=torch.float64)
    assert o.jrc_loss(logits, f(1, 1, 1, 1), torch.zeros(4, dtype=torch.long), alpha=0.0).tolist() == [0.0] * 4


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_clid_rests_where_the_student_is_the_teacher_or_proportional_to_it():
    lists, teacher = lists_of(3, 2), f(0.3, -1.0, -2.0, 0.1, -3.0)
    same = teacher.clone().requires_grad_()
    o.clid_loss(same, teacher, lists).sum().backward()
    assert same.grad.abs().max() < 1e-12
    proportional = torch.logit(0.35 * teacher.sigmoid()).requires_grad_()
    o.clid_loss(proportional, teacher, lists).sum().backward()
    assert proportional.grad.abs().max() < 1e-12
    other = (teacher + f(0.5, 0, 0, 0, 0)).requires_grad_()
    o.clid_loss(other, teacher, lists).sum().backward()
    assert other.grad.abs().max() > 1e-3


def test_clid_sends_nothing_to_the_teacher():
    teacher = torch.randn(4, requires_grad=True)
    o.clid_loss(torch.randn(4, requires_grad=True), teacher, lists_of(4)).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_those_of_finite_differences(seed):
    torch.manual_seed(seed)
    lists, rows, clicked = lists_of(3, 1, 4), torch.tensor([1, 3, 6]), f(1, 1, 0)
    u, z = (torch.randn(8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    classes = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    counts, clicks = torch.randint(0, 9, (8,)).double(), torch.randint(0, 3, (8,)).double()
    labels, sessions = (torch.rand(8) < 0.5).double(), torch.randint(0, 2, (8,))
    check = torch.autograd.gradcheck
    assert check(lambda a: o.exposure_loss(a, lists, rows), u)
    assert check(lambda a, b: o.click_list_loss(a, b, clicked, lists, rows), (u, z))
    assert check(lambda a: o.vam_list_loss(a, o.smoothed_ctr(counts, clicks, 2.0, 54.0), lists, 1000.0), z)
    assert check(lambda a: o.clid_loss(a, u.detach(), lists), z)
    assert check(lambda a: o.multinomial_loss(a, counts, clicks * (counts > 0), lists), z)
    assert check(lambda a: o.binomial_loss(a, counts + clicks, clicks, lists), z)
    assert check(lambda a: o.jrc_loss(a, labels, sessions, 0.5), classes)


# ---- segments --------------------------------------------------------------------------------------------------------


def test_logsumexp_is_stable_and_empty_lists_are_minus_infinity():
    values = torch.tensor([1000.0, 1000.0, -1000.0, float("-inf")], requires_grad=True)
    out = segment_logsumexp(values, torch.tensor([0, 0, 1, 2]), 4)
    assert torch.allclose(out[:2], torch.tensor([1000 + math.log(2), -1000.0]))
    assert out[2:].tolist() == [float("-inf")] * 2
    out[:2].sum().backward()
    assert values.grad.tolist() == [0.5, 0.5, 1.0, 0.0]


def test_losses_of_half_precision_logits_are_computed_in_single():
    assert segment_log_softmax(torch.randn(4).bfloat16(), torch.zeros(4, dtype=torch.long), 1).dtype == torch.float32
    assert o.click_loss(torch.randn(2).bfloat16(), torch.zeros(2)).dtype == torch.float32
