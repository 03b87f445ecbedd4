"""The families of vision-language models by their name in transformers."""

from __future__ import annotations

from adray.errors import ConfigError
from adray.representation.encoders.mllm_family import Family
from adray.representation.encoders.mllm_qwen import QwenFamily
from adray.representation.encoders.mllm_smolvlm import SmolVlmFamily

FAMILIES: dict[str, type[Family]] = {"qwen2_5_vl": QwenFamily, "qwen3_vl": QwenFamily, "smolvlm": SmolVlmFamily}
"""transformers `model_type` -> family."""


def family_of(model_type: str, source: str) -> type[Family]:
    """The family of a transformers model.

    Raises:
        ConfigError: If it is none of ours.
    """
    if model_type not in FAMILIES:
        raise ConfigError(f"{source} is a {model_type!r} model", f"use one of: {', '.join(FAMILIES)}")
    return FAMILIES[model_type]
