"""What a vision-language encoder is built from: a checkpoint's folder or sizes, a prompt, and what is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr


class TextSizes(Config):
    """Sizes of the language model."""

    width: int = Field(default=64, ge=8)
    """Hidden size, the vector's width."""
    layers: int = Field(default=2, ge=1)
    """Transformer blocks."""
    heads: int = Field(default=4, ge=1)
    """Query heads."""
    kv_heads: int = Field(default=2, ge=1)
    """Key and value heads, shared by groups of query heads."""
    head_dim: int = Field(default=16, ge=2)
    """Width of one head; `width / heads` in the smolvlm and qwen2_5_vl families."""
    mlp_width: int = Field(default=128, ge=8)
    """Width inside the gated MLP."""
    vocabulary: int | None = Field(default=None, ge=256)
    """Rows of the embedding; unset: as many as the tokenizer has ids."""
    rope_theta: float = Field(default=1e6, gt=0)
    """Base of the rotary positions."""


class VisionSizes(Config):
    """Sizes of the vision tower."""

    width: int = Field(default=32, ge=8)
    """Hidden size."""
    layers: int = Field(default=2, ge=1)
    """Transformer blocks."""
    heads: int = Field(default=2, ge=1)
    """Attention heads."""
    mlp_width: int = Field(default=64, ge=8)
    """Width inside the MLP."""
    patch: int = Field(default=16, ge=2)
    """Side of a patch in pixels."""
    merge: int = Field(default=2, ge=1)
    """Side of the square of patches that becomes one visual token."""
    deepstack: list[int] = Field(default_factory=list)
    """qwen3_vl: vision blocks whose output is also added to the first language blocks."""
    full_attention: list[int] = Field(default_factory=list)
    """qwen2_5_vl: blocks that attend over the whole picture, the others within windows; empty: the last one."""
    positions: int = Field(default=2304, ge=16)
    """qwen3_vl: learned position embeddings, a square number that is interpolated to a picture's grid."""
    side: int = Field(default=512, ge=16)
    """smolvlm: side of the square that every picture is brought to."""


class Architecture(Config):
    """A model given by its sizes, with random weights; beside `path`, what a checkpoint is expected to be."""

    family: Literal["qwen2_5_vl", "qwen3_vl", "smolvlm"] = "qwen3_vl"
    """The transformers model."""
    text: TextSizes = TextSizes()
    """The language model."""
    vision: VisionSizes = VisionSizes()
    """The vision tower."""
    tokenizer: Literal["qwen", "bytes"] = "qwen"
    """`qwen`: the real vocabulary, from package dashscope. `bytes`: 256 bytes and the special tokens."""
    tokens: int | None = Field(default=None, ge=256)
    """`qwen`: keep only the vocabulary's first so many tokens, which is a byte-pair vocabulary too."""

    @model_validator(mode="after")
    def _fits_together(self) -> Architecture:
        if self.text.heads % self.text.kv_heads:
            raise ValueError(f"text.heads {self.text.heads} is no multiple of text.kv_heads {self.text.kv_heads}")
        if self.vision.width % self.vision.heads:
            raise ValueError(f"vision.width {self.vision.width} is no multiple of vision.heads {self.vision.heads}")
        if self.family == "qwen3_vl" and round(self.vision.positions**0.5) ** 2 != self.vision.positions:
            raise ValueError(f"vision.positions {self.vision.positions} is no square number")
        if any(not 0 <= block < self.vision.layers for block in self.vision.deepstack):
            raise ValueError(f"vision.deepstack {self.vision.deepstack} names blocks outside 0..{self.vision.layers - 1}")
        if len(self.vision.deepstack) > self.text.layers:
            raise ValueError(f"vision.deepstack has {len(self.vision.deepstack)} blocks for {self.text.layers} language blocks")
        return self


class LoraConfig(Config):
    """Low-rank adapters in the language model (Hu et al. 2022), through peft. The vision tower never has any."""

    rank: int = Field(default=16, ge=1)
    """Rank of each update."""
    alpha: int = Field(default=32, ge=1)
    """Updates are scaled by `alpha / rank`."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on an adapter's input."""
    targets: list[str] = Field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"], min_length=1
    )
    """Names of the language model's linear layers that get one."""
    dora: bool = False
    """Train magnitude and direction apart (Liu et al. 2024)."""


class MllmConfig(Config):
    """A vision-language model whose last token's hidden state is the vector."""

    kind: Literal["mllm"] = "mllm"
    """A transformers vision-language model."""
    path: PathStr | None = None
    """Folder of a transformers checkpoint (Qwen2.5-VL, Qwen3-VL or SmolVLM): config, tokenizer, safetensors."""
    architecture: Architecture | None = None
    """Without `path`: the model to build, with random weights. With it: what the checkpoint must be, so that the run can
    be checked where the checkpoint is not."""
    lora: LoraConfig | None = LoraConfig()
    """Adapters to train; null trains the whole language model."""
    freeze_vision: bool = True
    """Keep the vision tower as it is, the merger into the language model included."""
    instruction: str = "Represent the advertising creative: the product, its looks and the offer."
    """The system turn."""
    empty: str = "NULL"
    """Stands for a creative with neither picture nor copy."""
    max_tokens: int = Field(default=8192, ge=16)
    """Longest prompt. Copy is cut to fit; visual tokens never are."""
    min_pixels: int = Field(default=4 * 32 * 32, ge=64)
    """Smaller pictures are enlarged to this area."""
    max_pixels: int = Field(default=1280 * 32 * 32, ge=256)
    """Larger pictures are reduced to this area."""
    padding: Literal["left", "right"] = "right"
    """Side on which shorter prompts of a batch are filled up; both give the same vectors."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights as they are loaded; training with precision bf16 casts them itself."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Implementation of attention."""

    @model_validator(mode="after")
    def _has_a_model(self) -> MllmConfig:
        if self.path is None and self.architecture is None:
            raise ValueError("an mllm needs path (a checkpoint's folder) or architecture (sizes)")
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is greater than max_pixels {self.max_pixels}")
        return self
