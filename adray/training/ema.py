"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps `average <- decay * average + (1 - decay) * weight` for every trainable parameter, in float32.

    Args:
        module: Whose weights to follow; the average starts at its present weights.
        decay: In (0, 1); the average's memory is about `1 / (1 - decay)` steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().float().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights, once per optimizer step."""
        weights = [p.detach() for p in self._weights.values()]
        if any(w.dtype != torch.float32 for w in weights):
            weights = [w.float() for w in weights]
        torch._foreach_lerp_(list(self._average.values()), weights, 1 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return self._average

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore averages saved from `state`."""
        for name, average in self._average.items():
            average.copy_(state[name])

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Within the block `module` has the averaged weights; afterwards its own, bit by bit.

        Args:
            module: The module that is followed, or another one with the same parameter names.
        """
        weights = {name: p for name, p in module.named_parameters() if name in self._average}
        kept = {name: p.detach().clone() for name, p in weights.items()}
        _write(weights, self._average)
        try:
            yield
        finally:
            _write(weights, kept)


@torch.no_grad()
def _write(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in weights.items():
        parameter.copy_(values[name])
