"""Trade compute for memory: recompute a block's activations in the backward pass (Chen et al. 2016)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from adray.errors import ConfigError

_BLOCKS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def checkpoint_activations(module: nn.Module) -> int:
    """Switch activation checkpointing on for a module's blocks.

    Blocks are torch's Transformer layers, submodules whose class sets `checkpoint_activations = True`, and models that
    offer `gradient_checkpointing_enable()`.

    Returns:
        How many were found.

    Raises:
        ConfigError: If there is none.
    """
    found = 0
    for part in module.modules():
        enable = getattr(part, "gradient_checkpointing_enable", None)
        if callable(enable):
            enable()
            found += 1
        elif isinstance(part, _BLOCKS) or getattr(type(part), "checkpoint_activations", False):
            _recompute(part)
            found += 1
    if not found:
        raise ConfigError("training.gradient_checkpointing is true but the module has no blocks to checkpoint", "set it to false")
    return found


def _recompute(block: nn.Module) -> None:
    forward = block.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        if not block.training:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    block.forward = run
