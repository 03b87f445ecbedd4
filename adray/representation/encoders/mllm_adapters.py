"""What of a vision-language model is trained: adapters or the language model, and the vision tower only when asked."""

from __future__ import annotations

from torch import nn

from adray.errors import ConfigError
from adray.representation.encoders.mllm_config import MllmConfig
from adray.representation.encoders.mllm_family import Family


def make_trainable(model: nn.Module, family: Family, config: MllmConfig) -> None:
    """Add LoRA adapters to the language model, and freeze what is not to be trained.

    Adapters are injected below the language model only, so no name in `targets` can match a layer of the vision tower.
    The token embedding is never trained under LoRA.

    Args:
        model: The transformers model; changed in place.
        family: Finds its parts.
        config: Says what is trained.

    Raises:
        ConfigError: If `lora.targets` names no layer of the language model.
    """
    language = family.language_model(model)
    model.requires_grad_(False)
    if config.lora is None:
        language.requires_grad_(True)
    else:
        _inject(language, config)
    if not config.freeze_vision:
        for part in family.vision(model):
            part.requires_grad_(True)


def _inject(language: nn.Module, config: MllmConfig) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    lora = config.lora
    assert lora is not None
    settings = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets, use_dora=lora.dora, bias="none"
    )
    there = {name.rpartition(".")[2] for name, _ in language.named_modules()}
    missing = [name for name in lora.targets if name not in there]
    if missing:
        raise ConfigError(f"field 'lora.targets' names {missing[0]!r}, no layer of the language model", "name linear layers such as q_proj")
    inject_adapter_in_model(settings, language)
