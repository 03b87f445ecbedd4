"""A vision-language model as encoder: the creative in a prompt, the last token's hidden state as its vector.

The template and the pooling are those of Qwen3-VL-Embedding: system turn = instruction, user turn = picture and copy, an
end token appended whose final hidden state is taken (causal attention has then seen everything).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch import Tensor, nn

from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.mllm_adapters import make_trainable
from adray.representation.encoders.mllm_config import MllmConfig
from adray.representation.encoders.mllm_family import Family
from adray.representation.encoders.mllm_loading import load_parts
from adray.representation.encoders.mllm_prompt import Prompt

_DUMMY = np.zeros((64, 64, 3), np.uint8)


class Mllm(Encoder):
    """A transformers vision-language model without its output layer.

    Args:
        config: Its config.
        model: The transformers model.
        family: Its family.
        tokenizer: Its tokenizer.
        assets: What its artifact must hold beside the tensors.

    Attributes:
        family: Its family.
    """

    def __init__(self, config: MllmConfig, model: nn.Module, family: Family, tokenizer: Tokenizer, assets: Mapping[str, Any]) -> None:
        super().__init__()
        self._config, self._assets = config, dict(assets)
        self.family = family
        self.model = model
        self._prompt = Prompt(config, family, tokenizer)
        self.dim = family.model_sizes.get_text_config().hidden_size
        make_trainable(model, family, config)

    def prepare(self, creatives: Creatives) -> EncoderInputs:
        """Prompts as padded tokens, pictures as the family's patches."""
        present = [picture for picture in creatives.pictures if picture is not None]
        tensors, counts = self.family.pictures(present) if present else ({}, [])
        visual = iter(counts)
        rows = [
            self._prompt.tokens(copy, 0 if picture is None else next(visual))
            for picture, copy in zip(creatives.pictures, creatives.copies, strict=True)
        ]
        return EncoderInputs({**self._prompt.padded(rows), **tensors}, len(creatives))

    def pooled(self, inputs: EncoderInputs) -> Tensor:
        """Hidden state `[n, dim]` of each prompt's last token, whichever side is padded."""
        states = self.family.hidden(self.model, inputs.tensors)
        mask = inputs.tensors["attention_mask"]
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        pooled = states[torch.arange(len(states), device=states.device), last]
        if "pixel_values" not in inputs.tensors and self._others_may_see_pictures():
            pooled = pooled + 0.0 * self._dummy_features(pooled.device).to(pooled.dtype)
        return pooled

    def _others_may_see_pictures(self) -> bool:
        # A rank that leaves the vision tower out would not join the collectives that gather its sharded weights.
        return self.training and dist.is_initialized() and dist.get_world_size() > 1

    def _dummy_features(self, device: torch.device) -> Tensor:
        tensors, _ = self.family.pictures([_DUMMY])
        return self.family.features(self.model, {name: tensor.to(device) for name, tensor in tensors.items()}).sum()

    def transform(self) -> Mapping[str, Any]:
        """Prompt, picture sizes and normalisation."""
        config, processor = self._config, self.family.processor
        return {
            "kind": config.kind,
            "family": self.family.model_sizes.model_type,
            "instruction": config.instruction,
            "empty": config.empty,
            "max_tokens": config.max_tokens,
            "min_pixels": config.min_pixels,
            "max_pixels": config.max_pixels,
            "mean": list(processor.image_mean),
            "std": list(processor.image_std),
        }

    def stored_tensors(self) -> Mapping[str, Tensor]:
        """All tensors of a model that was built from sizes; of a checkpoint's only those that are trained."""
        if self._config.path is None:
            return self.state_dict()
        return {name: parameter.detach() for name, parameter in self.named_parameters() if parameter.requires_grad}

    def assets(self) -> Mapping[str, Any]:
        """The tokenizer, or the hashes of the checkpoint's files."""
        return self._assets


def build_mllm(config: MllmConfig, assets: Mapping[str, Any] | None) -> Mllm:
    """Build the encoder.

    Args:
        config: Its config.
        assets: From an artifact; None for a new encoder.

    Raises:
        ConfigError: If the checkpoint is missing or of another architecture, or the prompt leaves no room for copy.
        ArtifactError: If the checkpoint is not the one that the artifact was made with.
    """
    model, family, tokenizer, own_assets = load_parts(config, assets)
    return Mllm(config, model, family, tokenizer, own_assets)
