"""What an inspector's verbs need, found before anything slow starts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from adray.checks import Check
from adray.data.sources import Source
from adray.errors import AdrayError
from adray.feedback.config import PICTURES, ModelConfig, RFNetRunConfig
from adray.feedback.inputs import Inputs, modalities
from adray.feedback.pieces import open_pieces
from adray.feedback.rfnet import Inspector, build
from adray.run import run_folder
from adray.training.checks import artifact_check, checkpoint_check, training_checks, worker_memory_check
from adray.training.config import TrainingConfig

_ROUND_UP = 1.1
"""Workspace and fragmentation on top of what is counted; a judgement."""


def all_checks(config: RFNetRunConfig, verb: str) -> Iterator[Check]:
    """Sources, the run's folder, the network built without memory, memory per worker, and the trainer's own checks."""
    yield from _run_checks(config, verb)
    try:
        pieces = open_pieces(config.data)
        found = [f"{p.parts} parts" + (f", {len(p.source.schema.names)} columns" if isinstance(p.source, Source) else "") for p in pieces]
        yield Check("annotations readable", "; ".join(found))
    except AdrayError as error:
        yield Check("annotations readable", config.data.path, error)
    if verb != "train":
        return
    try:
        with torch.device("meta"):
            net = build(config.model)
    except AdrayError as error:
        yield Check("network", config.model.kind, error)
        return
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    yield Check("network", f"{config.model.kind} of {parameters:,} trainable parameters, reads {', '.join(modalities(config.model))}")
    yield activation_check(net, config.model, config.training)
    lanes = config.data.lanes
    yield from training_checks(config.training, lanes=lanes, run_folder=run_folder(config), parameters=parameters)


def _run_checks(config: RFNetRunConfig, verb: str) -> Iterator[Check]:
    folder = run_folder(config)
    if verb == "evaluate":
        yield artifact_check(config.name, folder, "rfnet")
    elif verb == "export":
        yield checkpoint_check(config.name, folder)


def activation_check(net: Inspector, model: ModelConfig, training: TrainingConfig) -> Check:
    """Memory of one worker: what the backward pass keeps of a micro-batch, beside weights, gradients and Adam's moments."""
    workers = training.world_sizes()[0]
    micro, _ = training.micro_batch(workers)
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    kept = activation_bytes(net, model, micro, half=training.precision != "fp32", recompute=training.gradient_checkpointing)
    state = 16 * parameters
    total = _ROUND_UP * (kept + state)
    text = (
        f"about {total / 2**30:.1f} GiB per worker: {kept / 2**30:.2f} GiB activations of {micro} pictures of {model.image_size} px, "
        f"{state / 2**30:.2f} GiB weights, gradients and moments"
    )
    return worker_memory_check(text, total, training)


def activation_bytes(net: Inspector, model: ModelConfig, rows: int, *, half: bool, recompute: bool = False) -> int:
    """Bytes of the outputs of all layers in one forward pass, which is about what the backward pass keeps.

    Args:
        net: Built on the meta device: shapes are followed, nothing is computed or allocated.
        model: Its config.
        rows: Pictures of a micro-batch.
        half: Whether activations are bf16.
        recompute: Leave out the inside of blocks whose activations are recomputed.
    """
    total = 0

    def count(module: nn.Module, arguments: object, output: object) -> None:
        nonlocal total
        tensors = output if isinstance(output, tuple) else (output,)
        total += sum(t.numel() * (2 if half else 4) for t in tensors if isinstance(t, torch.Tensor))

    blocks = [m for m in net.modules() if recompute and isinstance(m, nn.TransformerEncoderLayer)]
    inside = {id(m) for block in blocks for m in block.modules()} - {id(block) for block in blocks}
    counted = [m for m in net.modules() if id(m) not in inside and (m in blocks or not list(m.children()))]
    handles = [m.register_forward_hook(count) for m in counted]
    was_training = net.training
    try:
        # Training mode: the fused inference path of Transformer layers would pass over their parts.
        net.train()
        with torch.device("meta"):
            net(meta_inputs(model, rows))
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    return total


def meta_inputs(model: ModelConfig, rows: int) -> Inputs:
    """Inputs of the right shapes on the present device."""
    read = modalities(model)
    side = model.image_size
    pictures = {name: torch.zeros(rows, 3, side, side) for name in PICTURES if name in read}
    if "copy" not in read:
        return Inputs(pictures)
    length = model.text.max_tokens if hasattr(model, "text") else 1
    return Inputs(pictures, torch.zeros(rows, length, dtype=torch.int64), torch.ones(rows, length, dtype=torch.int64))
