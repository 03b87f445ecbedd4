from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from adray.generation.condition import make_condition
from adray.generation.prompts import PromptConfig
from adray.generation.rfft.config import FeedbackConfig
from adray.generation.rfft.module import FeedbackModule
from adray.generation.rfft.source import Products, asked
from adray.generation.sampler import SamplingConfig
from tests.helpers.tiny_generator import box_cutouts, tiny_components
from tests.helpers.tiny_inspector import tiny_inspector

PROMPTS = PromptConfig(entries=[{"prompt": "{title}, {colour} room"}], colours=["red", "blue"])
SAMPLING = SamplingConfig(steps=8, guidance=2.0, mask_cells="any")


@pytest.fixture(scope="module")
def inspector(tmp_path_factory):
    return tiny_inspector(tmp_path_factory.mktemp("rfnet") / "rfnet")


def module(inspector, **fields):
    feedback = FeedbackConfig(inspector="-", last_steps=4, **fields)
    return FeedbackModule(tiny_components("sample"), copy.deepcopy(inspector), feedback, SAMPLING).train()


def batch(n=3, step=6):
    names = tuple(f"s{i}" for i in range(n))
    products = Products(names, names, tuple(["mini kettle", "giant chair", "mini chair"][i % 3] for i in range(n)), box_cutouts(n))
    return asked(products, PROMPTS, 0, 0, step)


@pytest.mark.parametrize("regulariser", ["none", "cc", "kl"])
def test_the_controlnet_alone_gets_a_gradient(inspector, regulariser):
    made = module(inspector, regulariser=regulariser, beta=2.0)
    made(batch())["loss"].backward()
    for name, parameter in made.named_parameters():
        if name.startswith("controlnet."):
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        else:
            assert parameter.grad is None and not parameter.requires_grad, name
    assert sum(float(p.grad.abs().sum()) for p in made.controlnet.parameters()) > 0
    groups = [p for group in made.parameter_groups() for p in group["params"]]
    assert {id(p) for p in groups} == {id(p) for p in made.controlnet.parameters()}


@pytest.mark.parametrize("regulariser", ["cc", "kl"])
def test_student_and_teacher_begin_as_one(inspector, regulariser):
    made = module(inspector, regulariser=regulariser, beta=5.0)
    outputs = made(batch())
    assert float(outputs["regulariser"]) == 0.0
    assert float(outputs["loss"].detach()) == pytest.approx(float(outputs["feedback"]))
    with torch.no_grad():
        made.controlnet.controlnet_mid_block.weight.mul_(3.0)
    assert float(made(batch())["regulariser"]) > 0


@pytest.mark.parametrize("detach_maps", [False, True])
def test_ten_steps_on_one_state_lower_the_loss(inspector, detach_maps):
    made = module(inspector, regulariser="none", detach_maps=detach_maps)
    optimizer = torch.optim.AdamW(made.controlnet.parameters(), lr=2e-4, weight_decay=0.0)
    losses = []
    given = batch(n=4)
    condition = make_condition(made._parts, given.products.cutouts, given.prompts, given.negatives, "any")
    state = made.before_gradient(given, condition)
    made.before_gradient = lambda *_: state  # the same x_t, whatever the ControlNet has become
    for _ in range(11):
        loss = made(given)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if not detach_maps:
        assert losses[-1] < losses[0] - 1e-3, losses
    # Without the maps' part the gradient is another one: that is what the switch does.
    assert np.isfinite(losses).all()


def test_memory_does_not_depend_on_the_step(inspector):
    def saved_bytes(step):
        made, total = module(inspector, regulariser="none"), 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            made(batch(step=step))
        return total

    assert saved_bytes(4) == saved_bytes(7)


def test_the_teacher_costs_one_controlnet(inspector):
    def count(made):
        return sum(p.numel() for p in made.parameters())

    without, with_teacher = module(inspector, regulariser="none"), module(inspector, regulariser="cc")
    assert count(with_teacher) - count(without) == sum(p.numel() for p in without.controlnet.parameters())


def test_half_batches_average_to_the_gradient_of_the_whole(inspector):
    made = module(inspector, regulariser="cc")
    whole = batch(n=4)
    made(whole)["loss"].backward()
    expected = [p.grad.clone() for p in made.controlnet.parameters()]
    made.zero_grad()
    for rows in ([0, 1], [2, 3]):
        (made(asked(whole.products.take(rows), PROMPTS, 0, 0, whole.step))["loss"] / 2).backward()
    for parameter, gradient in zip(made.controlnet.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5, rtol=1e-3)


def test_refl_trains_without_guidance(inspector):
    made = module(inspector, loss="refl", guided=False, regulariser="none")
    assert made._sampling.guidance == 1.0
    outputs = made(batch())
    outputs["loss"].backward()
    assert float(outputs["loss"].detach()) > 0 and any(p.grad.abs().sum() > 0 for p in made.controlnet.parameters())


def test_frozen_parts_stay_in_evaluation_mode(inspector):
    made = module(inspector).train()
    assert made.controlnet.training
    assert not any(part.training for part in (made.unet, made.vae, made.text_encoder, made.inspector, made.teacher))


def test_recomputed_blocks_give_the_same_gradient(inspector):
    plain, recomputed = module(inspector, regulariser="none"), module(inspector, regulariser="none")
    recomputed.load_state_dict(plain.state_dict())
    recomputed.gradient_checkpointing_enable()
    for made in (plain, recomputed):
        made(batch())["loss"].backward()
    for one, two in zip(plain.controlnet.parameters(), recomputed.controlnet.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, atol=1e-6)


def test_half_precision_is_kept_to_the_steps_without_gradient(inspector):
    exact, half = module(inspector, regulariser="none"), module(inspector, regulariser="none", rollout="bf16")
    half.load_state_dict(exact.state_dict())
    given = batch(step=5)
    condition = make_condition(exact._parts, given.products.cutouts, given.prompts, given.negatives, "any")
    one, two = exact.before_gradient(given, condition)[0], half.before_gradient(given, condition)[0]
    assert two.dtype == torch.float32 and 1e-5 < float((one - two).abs().max() / one.abs().max()) < 0.1
    seen = []
    half.controlnet.register_forward_hook(lambda _m, inputs, output: seen.append(output[1].dtype) if torch.is_grad_enabled() else None)
    half(given)
    assert seen == [torch.float32]
