"""LARS: SGD whose step is scaled per layer (You, Gitman and Ginsburg 2017), with the exclusions that self-supervised training uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Lars(torch.optim.Optimizer):
    """Momentum SGD; a weight matrix moves by a fixed share of its own length, whatever the size of its gradient.

    For a weight w of two or more dimensions with gradient g: `d = g + wd w`, `d <- trust |w| / |d| d` (unscaled where one of
    the lengths is zero), `v <- momentum v + d`, `w <- w - lr v`. Weights of one dimension and less (biases, norms) take plain
    momentum steps: neither scaled nor decayed.

    Args:
        params: Parameters or groups.
        lr: Learning rate; a group may have its own.
        momentum: In [0, 1).
        weight_decay: Added to the gradient before scaling; a group may have its own.
        trust: The share.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 0.001) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        change = weight.grad
        assert change is not None
        if weight.ndim > 1:
            change = change.add(weight, alpha=group["weight_decay"])
            lengths = weight.norm(), change.norm()
            both = (lengths[0] > 0) & (lengths[1] > 0)
            # On the device, without waiting for it.
            change = change * torch.where(both, group["trust"] * lengths[0] / lengths[1].clamp(min=1e-38), 1.0)
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        state["velocity"].mul_(group["momentum"]).add_(change)
        weight.add_(state["velocity"], alpha=-group["lr"])
