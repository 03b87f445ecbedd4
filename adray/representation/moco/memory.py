"""How much memory a MoCo run takes per worker, from the model built without memory, on the meta device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adray.representation.encoders.resnet import Resnet, ResnetConfig
from adray.representation.encoders.vit import Vit, VitConfig
from adray.representation.moco.module import MocoModule
from adray.training.config import TrainingConfig

_PROBE_ROWS = 2


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one worker.

    Attributes:
        trained: Trained parameters (a number, not bytes).
        key: Parameters of the momentum copy.
        state: Weights, gradients and optimizer state, as far as this worker holds them, and the momentum copy.
        activations: What the backward pass of both views keeps.
        fixed: Views in float32, gathered keys and logits.
    """

    trained: int
    key: int
    state: int
    activations: int
    fixed: int

    @property
    def total(self) -> int:
        """Everything."""
        return self.state + self.activations + self.fixed


def saved_bytes(module: nn.Module, pixels: torch.Tensor, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps for the backward pass of one forward pass, weights apart; works on the meta device.

    Args:
        module: Encoder's backbone.
        pixels: Its input.
        dtype: Precision of the activations.
    """
    module.to(dtype)
    owned = {p.untyped_storage()._cdata for p in module.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in owned:
            # Two operations that keep the same memory keep it once. Held, so that no other storage gets its address.
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        module(pixels.to(dtype))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def estimate(module: MocoModule, config: TrainingConfig, *, view: int, square: int) -> MemoryEstimate:
    """Estimate one worker's memory with the fewest workers the config allows.

    Args:
        module: Built on the meta device.
        config: Workers, batch, precision, ZeRO stage.
        view: Side of the views in pixels.
        square: Side of the squares they are cut out of, in pixels.
    """
    workers = config.world_sizes()[0]
    micro, _ = config.micro_batch(workers)
    trained = sum(p.numel() for group in module.parameter_groups() for p in group["params"])
    key = sum(p.numel() for p in module.key.parameters())
    # ZeRO 1 shards the optimizer state, ZeRO 2 also the gradients.
    share = [1 if config.zero_stage >= stage else workers for stage in (1, 2)]
    moments = {"adamw": 8, "sgd": 4, "lars": 4, "adagrad": 4}[config.optimizer]
    state = 4 * trained + (4 * trained * share[1] + moments * trained * share[0]) // workers + 4 * key
    half = config.precision != "fp32"
    encoder = module.encoder
    assert isinstance(encoder, Resnet | Vit)
    probe = _Backbone(encoder)
    per_row = saved_bytes(probe, torch.empty(_PROBE_ROWS, 3, view, view, device="meta"), torch.bfloat16 if half else torch.float32)
    if config.gradient_checkpointing:
        per_row //= max(1, len(encoder.blocks))
    # uint8 squares, two float views; keys of both views; logits and their softmax in both directions.
    fixed = micro * 3 * square**2 + 2 * micro * 3 * view**2 * 4 + 2 * config.batch_size * module.config.out * 4
    fixed += 2 * 2 * micro * config.batch_size * 4
    return MemoryEstimate(trained, key, state, 2 * micro * per_row // _PROBE_ROWS, fixed)


class _Backbone(nn.Module):
    def __init__(self, encoder: Resnet | Vit) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.encoder.backbone(pixels)


def built_on_meta(encoder: ResnetConfig | VitConfig) -> Resnet | Vit:
    """The encoder's shapes without memory."""
    with torch.device("meta"):
        return Resnet(encoder) if isinstance(encoder, ResnetConfig) else Vit(encoder)
