"""The SmolVLM family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from adray.representation.encoders.mllm_config import Architecture
from adray.representation.encoders.mllm_family import Family, Turns
from adray.representation.encoders.mllm_tokenizer import SMOLVLM_SPECIAL


class SmolVlmFamily(Family):
    """SmolVLM: every picture becomes one square, not split into tiles, and a fixed number of tokens."""

    special = SMOLVLM_SPECIAL

    @staticmethod
    def sizes(architecture: Architecture, vocabulary: int, ids: Mapping[str, int]) -> Any:
        """See `Family.sizes`."""
        from transformers import LlamaConfig, SmolVLMConfig

        text, vision = architecture.text, architecture.vision
        language = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=text.width,
            intermediate_size=text.mlp_width,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            num_key_value_heads=text.kv_heads,
            head_dim=text.head_dim,
            rope_parameters={"rope_type": "default", "rope_theta": text.rope_theta},
            pad_token_id=ids["<|endoftext|>"],
            bos_token_id=ids["<|im_start|>"],
            eos_token_id=ids["<end_of_utterance>"],
        )
        tower = {
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "patch_size": vision.patch,
            "image_size": vision.side,
        }
        return SmolVLMConfig(text_config=language, vision_config=tower, scale_factor=vision.merge, image_token_id=ids["<image>"])

    @staticmethod
    def image_processor(path: str | None, sizes: Any) -> Any:
        """See `Family.image_processor`."""
        from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

        side = {"longest_edge": sizes.vision_config.image_size}
        settings: dict[str, Any] = {"do_image_splitting": False, "size": side, "max_image_size": side}
        if path is not None:
            return SmolVLMImageProcessorPil.from_pretrained(path, local_files_only=True, **settings)
        return SmolVLMImageProcessorPil(**settings)

    def turns(self) -> Turns:
        """See `Family.turns`."""
        before = f"<|im_start|>System: {self.config.instruction}<end_of_utterance>\nUser: "
        around = "<fake_token_around_image>"
        return Turns(before, (around, "<global-img>"), "<image>", (around,), "<end_of_utterance>\nAssistant:<|endoftext|>")

    def most_visual_tokens(self) -> int:
        """See `Family.most_visual_tokens`."""
        vision = self.model_sizes.vision_config
        return (vision.image_size // vision.patch_size) ** 2 // self.model_sizes.scale_factor**2

    def pictures(self, pictures: Sequence[np.ndarray]) -> tuple[dict[str, Tensor], list[int]]:
        """See `Family.pictures`."""
        made = self.processor(images=[[Image.fromarray(picture)] for picture in pictures], return_tensors="pt")
        return {"pixel_values": made["pixel_values"]}, [self.most_visual_tokens()] * len(pictures)

    def features(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """See `Family.features`."""
        return torch.cat(list(model.get_image_features(tensors["pixel_values"]).pooler_output))

    def hidden(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """See `Family.hidden`."""
        arguments = {name: tensors[name] for name in ("input_ids", "attention_mask", "pixel_values") if name in tensors}
        positions = (tensors["attention_mask"].cumsum(1) - 1).clamp(min=0)
        return model(**arguments, position_ids=positions, use_cache=False).last_hidden_state

    @staticmethod
    def language_model(model: nn.Module) -> nn.Module:
        """See `Family.language_model`."""
        return model.get_submodule("text_model")

    @staticmethod
    def vision(model: nn.Module) -> list[nn.Module]:
        """See `Family.vision`."""
        return [model.get_submodule("vision_model"), model.get_submodule("connector")]
