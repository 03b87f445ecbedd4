"""The key network: a second set of the query network's trained weights, following it slowly."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def momentum_at(progress: float, base: float, cosine: bool) -> float:
    """The momentum of a step.

    Args:
        progress: Share of the run done, 0 to 1.
        base: m0.
        cosine: Rise from m0 to 1 as `1 - (1 - m0) (1 + cos(pi progress)) / 2`; else stay at m0.
    """
    return 1 - (1 - base) * (1 + math.cos(math.pi * progress)) / 2 if cosine else base


def _flat(name: str) -> str:
    return name.replace(".", "/")


class MomentumCopy(nn.Module):
    """A second set of a network's trained parameters and of its buffers; what is frozen is shared, not copied.

    So the memory of the key network is that of what is trained: all of a network from scratch, but only the adapters of a
    large frozen one. Buffers (BatchNorm statistics) are not averaged: they follow from the key network's own forward passes.

    Args:
        network: The query network, with `requires_grad` set as it will be trained.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(_flat(name), nn.Parameter(parameter.detach().clone(), requires_grad=False))
        for name, buffer in network.named_buffers():
            self.register_buffer(_flat(name), buffer.detach().clone())

    @torch.no_grad()
    def update(self, network: nn.Module, momentum: float) -> None:
        """`k <- m k + (1 - m) q` for every trained parameter."""
        queries = dict(network.named_parameters())
        pairs = [(own, queries[name.replace("/", ".")]) for name, own in self.named_parameters()]
        keys: list[Tensor] = [own.detach() for own, _ in pairs]
        moved: list[Tensor] = [query.detach() for _, query in pairs]
        torch._foreach_mul_(keys, momentum)
        torch._foreach_add_(keys, list(torch._foreach_mul(moved, 1 - momentum)))

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers under the query network's names."""
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name.replace("/", "."): tensor for name, tensor in own.items()}

    @torch.no_grad()
    def keys(self, network: nn.Module, inputs: Any) -> Tensor:
        """What the network gives for `inputs` with these weights, without gradient; its own weights and buffers stay untouched."""
        return torch.func.functional_call(network, self.tensors(), (inputs,))
