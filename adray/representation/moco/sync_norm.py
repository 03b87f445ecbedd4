"""BatchNorm over the rows of all ranks, on any backend: torch's own exists for GPUs only."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adray.representation.moco.loss import world


class _AllSum(torch.autograd.Function):
    """The sum over ranks. Each rank's loss depends on it, so the gradient is the sum over ranks as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class CrossRankBatchNorm(nn.BatchNorm1d):
    """`BatchNorm1d` and `BatchNorm2d` in one, whose training statistics are those of all ranks' rows.

    Gradients, averaged over ranks, are those of one process with the whole batch. Every rank must make the same calls.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 4):
            raise ValueError(f"expected [n, c] or [n, c, h, w], got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """float `[n, c]` or `[n, c, h, w]` to the same shape."""
        if not self.training or world()[1] == 1:
            return super().forward(input)
        self._check_input_dim(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        x = input.float()
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = _AllSum.apply(torch.cat([x.sum(axes), count]))
        rows, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        shape = (1, -1) + (1,) * (input.ndim - 2)
        # Two passes: the difference of squares would lose what matters when the mean is large.
        variance = _AllSum.apply((x - mean.view(shape)).square().sum(axes)) / rows
        self._remember(mean.detach(), variance.detach() * (rows / (rows - 1)))
        result = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronised(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm below a module by one over all ranks, keeping its weights and buffers' names.

    Args:
        module: Changed in place.

    Returns:
        The module, or its replacement when it is a BatchNorm itself.
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(module, CrossRankBatchNorm):
        new = CrossRankBatchNorm(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        # The same tensors, so that what is frozen stays frozen and what is shared stays shared.
        new.weight, new.bias = module.weight, module.bias
        for name, buffer in module.named_buffers():
            new.register_buffer(name, buffer)
        return new.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, synchronised(child))
    return module
