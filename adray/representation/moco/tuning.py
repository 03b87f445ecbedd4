"""Training a small part of a pretrained encoder: low-rank changes to some of its layers, or some of its weights as they are."""

from __future__ import annotations

import re

import torch
from peft import LoraConfig as PeftLora
from peft import inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer

from adray.errors import ConfigError
from adray.representation.encoders.base import Encoder
from adray.representation.moco.config import LoraConfig


def tuned(encoder: Encoder, config: LoraConfig) -> Encoder:
    """Leave only what the config names trainable; low-rank changes start at zero, so that nothing changes before training.

    Args:
        encoder: Changed in place.
        config: Targets and patterns; without both, what the encoder itself trains stays trained.

    Raises:
        ConfigError: If a name or pattern matches nothing, or nothing is trained.
    """
    if config.targets or config.unfreeze:
        encoder.requires_grad_(False)
    if config.targets:
        names = [name for name, _ in encoder.named_modules()]
        missing = [target for target in config.targets if not any(name == target or name.endswith("." + target) for name in names)]
        if missing:
            leaves = sorted({name.rpartition(".")[2] for name in names if name and not name.rpartition(".")[2].isdigit()})
            raise ConfigError(f"tune.targets: no module ends in {missing[0]!r}", f"modules: {', '.join(leaves)}")
        lora = PeftLora(r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules=list(config.targets))  # type: ignore[arg-type]
        inject_adapter_in_model(lora, encoder)
    for pattern in config.unfreeze:
        found = [p for name, p in encoder.named_parameters() if re.search(pattern, name)]
        if not found:
            raise ConfigError(f"tune.unfreeze: no weight's name matches {pattern!r}", "look at the encoder's parameter names")
        for parameter in found:
            parameter.requires_grad_(True)
    if not any(p.requires_grad for p in encoder.parameters()):
        raise ConfigError("nothing of the encoder is trained", "set tune.targets or tune.unfreeze")
    return encoder


@torch.no_grad()
def merged_into(fresh: Encoder, encoder: Encoder) -> Encoder:
    """Copy a tuned encoder's weights into one that was built plainly, low-rank changes added to the weights they change.

    Args:
        fresh: Built from the same config; filled in place.
        encoder: From `tuned`; as it was when this returns.
    """
    layers = [module for module in encoder.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.merge()
    try:
        state = {name.replace(".base_layer.", "."): tensor for name, tensor in encoder.state_dict().items() if ".lora_" not in name}
        fresh.load_state_dict(state)
    finally:
        for layer in layers:
            layer.unmerge()
    return fresh
