"""The Qwen2.5-VL and Qwen3-VL families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, sqrt
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from adray.representation.encoders.mllm_config import Architecture
from adray.representation.encoders.mllm_family import Family, Turns
from adray.representation.encoders.mllm_tokenizer import QWEN_SPECIAL


class QwenFamily(Family):
    """Qwen2.5-VL and Qwen3-VL: pictures keep their aspect and become as many tokens as their area asks for."""

    special = QWEN_SPECIAL

    @staticmethod
    def sizes(architecture: Architecture, vocabulary: int, ids: Mapping[str, int]) -> Any:
        """See `Family.sizes`."""
        from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

        text, vision = architecture.text, architecture.vision
        half = text.head_dim // 2
        # Rotary frequencies of time, height and width: 24:20:20 of 64 in Qwen3-VL, 16:24:24 in Qwen2.5-VL.
        share = half * 5 // 16 if architecture.family == "qwen3_vl" else half * 3 // 8
        rope = {"rope_type": "default", "rope_theta": text.rope_theta, "mrope_section": [half - 2 * share, share, share]}
        language: dict[str, Any] = {
            "vocab_size": vocabulary,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "pad_token_id": ids["<|endoftext|>"],
        }
        tower: dict[str, Any] = {
            "depth": vision.layers,
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_heads": vision.heads,
            "patch_size": vision.patch,
            "spatial_merge_size": vision.merge,
            "out_hidden_size": text.width,
        }
        tokens: dict[str, Any] = {
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
        }
        if architecture.family == "qwen3_vl":
            language |= {"head_dim": text.head_dim, "rope_parameters": {**rope, "mrope_interleaved": True}}
            tower |= {"num_position_embeddings": vision.positions, "deepstack_visual_indexes": vision.deepstack}
            return Qwen3VLConfig(text_config=language, vision_config=tower, **tokens)
        language |= {"rope_parameters": rope, "bos_token_id": None, "eos_token_id": ids["<|im_end|>"]}
        tower |= {"fullatt_block_indexes": vision.full_attention or [vision.layers - 1]}
        return Qwen2_5_VLConfig(text_config=language, vision_config=tower, **tokens)

    @staticmethod
    def image_processor(path: str | None, sizes: Any) -> Any:
        """See `Family.image_processor`."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        if path is not None:
            return Qwen2VLImageProcessorPil.from_pretrained(path, local_files_only=True)
        # Qwen3-VL's checkpoints normalise to -1..1, Qwen2.5-VL's with CLIP's statistics, the processor's default.
        half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if sizes.model_type == "qwen3_vl" else {}
        vision = sizes.vision_config
        return Qwen2VLImageProcessorPil(patch_size=vision.patch_size, merge_size=vision.spatial_merge_size, **half)

    def turns(self) -> Turns:
        """See `Family.turns`."""
        before = f"<|im_start|>system\n{self.config.instruction}<|im_end|>\n<|im_start|>user\n"
        after = "<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
        return Turns(before, ("<|vision_start|>",), "<|image_pad|>", ("<|vision_end|>",), after)

    def most_visual_tokens(self) -> int:
        """See `Family.most_visual_tokens`."""
        return self.config.max_pixels // self._factor**2

    @property
    def _factor(self) -> int:
        return self.processor.patch_size * self.processor.merge_size

    def pictures(self, pictures: Sequence[np.ndarray]) -> tuple[dict[str, Tensor], list[int]]:
        """See `Family.pictures`."""
        resized = [self._resize(picture) for picture in pictures]
        made = self.processor(images=resized, do_resize=False, return_tensors="pt")
        tokens = made["image_grid_thw"].prod(1) // self.processor.merge_size**2
        return {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}, tokens.tolist()

    def _resize(self, picture: np.ndarray) -> np.ndarray:
        size = picture_size(picture.shape[0], picture.shape[1], self._factor, self.config.min_pixels, self.config.max_pixels)
        return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling(self.processor.resample)))

    def features(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """See `Family.features`."""
        return torch.cat(model.get_image_features(tensors["pixel_values"], tensors["image_grid_thw"]).pooler_output)

    def hidden(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """See `Family.hidden`."""
        arguments = {name: tensors[name] for name in ("input_ids", "attention_mask", "pixel_values", "image_grid_thw") if name in tensors}
        if "pixel_values" in tensors:
            arguments["mm_token_type_ids"] = tensors["picture_mask"]
        else:
            # Without pictures the model would count from the padding on; its three position axes are then equal.
            positions = (tensors["attention_mask"].cumsum(1) - 1).clamp(min=0)
            arguments["position_ids"] = positions.expand(3, -1, -1)
        return model(**arguments, use_cache=False).last_hidden_state

    @staticmethod
    def language_model(model: nn.Module) -> nn.Module:
        """See `Family.language_model`."""
        return model.get_submodule("language_model")

    @staticmethod
    def vision(model: nn.Module) -> list[nn.Module]:
        """See `Family.vision`."""
        return [model.get_submodule("visual")]


def picture_size(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """The size at which Qwen's vision tower sees a picture: sides that are multiples of `factor`, an area within bounds.

    Aspect is kept as well as that allows; unlike in the reference processor every aspect is legal, and the upper bound
    holds for the thinnest picture too.

    Args:
        height: Pixels.
        width: Pixels.
        factor: Patch side times merge side.
        least: Least area.
        most: Greatest area, at least `factor` squared.

    Returns:
        Height and width.
    """
    new_height, new_width = max(factor, round(height / factor) * factor), max(factor, round(width / factor) * factor)
    scale = 1.0
    if new_height * new_width > most:
        scale = sqrt(most / (height * width))
        new_height, new_width = (max(factor, floor(side * scale / factor) * factor) for side in (height, width))
    elif round(height / factor) * round(width / factor) * factor**2 < least:
        scale = sqrt(least / (height * width))
        new_height, new_width = (-floor(-side * scale / factor) * factor for side in (height, width))
    if new_height * new_width > most:
        short = min(new_height, new_width, floor(sqrt(most) / factor) * factor)
        long = floor(most / short / factor) * factor
        new_height, new_width = (short, long) if new_height <= new_width else (long, short)
    return new_height, new_width
