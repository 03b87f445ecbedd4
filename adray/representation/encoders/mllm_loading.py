"""The parts of a vision-language encoder: from a checkpoint's folder, from sizes, or from an artifact."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from adray.errors import ArtifactError, ConfigError
from adray.files import sha256
from adray.representation.encoders.mllm_config import Architecture, MllmConfig
from adray.representation.encoders.mllm_families import family_of
from adray.representation.encoders.mllm_family import Family
from adray.representation.encoders.mllm_tokenizer import build_tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Parts = tuple[nn.Module, Family, Tokenizer, dict[str, Any]]
"""Model, family, tokenizer, and the assets that an artifact keeps."""


def load_parts(config: MllmConfig, assets: Mapping[str, Any] | None) -> Parts:
    """Build or load a model with its tokenizer.

    Args:
        config: The encoder's config.
        assets: From an artifact; None for a new encoder.

    On the meta device a checkpoint's weights are not read, and it may be missing where `architecture` says its sizes.

    Raises:
        ConfigError: If the checkpoint is missing, unreadable or of another architecture than the config says.
        ArtifactError: If the checkpoint is not the one that the artifact was made with.
    """
    sketched = torch.get_default_device().type == "meta"
    if config.path is not None and not (sketched and config.architecture is not None and not holds_checkpoint(config.path)):
        return _from_checkpoint(config, config.path, assets, sketched)
    assert config.architecture is not None
    architecture = config.architecture
    kind = family_of(architecture.family, "field 'architecture'")
    if config.path is not None:
        # The checkpoint brings its own tokenizer; what is only counted needs none but the special tokens.
        tokenizer = build_tokenizer("bytes", None, kind.special)
    elif assets is None:
        tokenizer = build_tokenizer(architecture.tokenizer, architecture.tokens, kind.special)
    else:
        tokenizer = Tokenizer.from_str(json.dumps(assets["tokenizer"]))
    sizes = sizes_of(architecture, tokenizer)
    family = kind(config.model_copy(update={"path": None}), sizes)
    return build_model(sizes, config), family, tokenizer, {"tokenizer": json.loads(tokenizer.to_str())}


def holds_checkpoint(path: str) -> bool:
    """Whether a folder looks like a transformers checkpoint."""
    return (Path(path) / "config.json").is_file()


def sizes_of(architecture: Architecture, tokenizer: Tokenizer | None) -> Any:
    """The transformers config of a model given by its sizes.

    Args:
        architecture: The sizes.
        tokenizer: Gives vocabulary and special ids; None where no text is encoded (they are then the last of `text.vocabulary`).

    Raises:
        ConfigError: If the embedding has fewer rows than the tokenizer has ids.
    """
    kind = family_of(architecture.family, "field 'architecture'")
    known = tokenizer.get_vocab_size() if tokenizer is not None else architecture.text.vocabulary
    if known is None:
        raise ConfigError("field 'architecture.text.vocabulary' is missing", "set it to the checkpoint's vocab_size")
    vocabulary = architecture.text.vocabulary or known
    if vocabulary < known:
        raise ConfigError(
            f"field 'architecture.text.vocabulary' is {vocabulary}, the tokenizer has {known} ids", "raise it or leave it out"
        )
    ids = {token: known - len(kind.special) + i for i, token in enumerate(kind.special)}
    if tokenizer is not None:
        ids = {token: number for token, number in tokenizer.get_vocab().items() if token in ids}
    return kind.sizes(architecture, vocabulary, ids)


def build_model(sizes: Any, config: MllmConfig) -> nn.Module:
    """A transformers model with random weights, without an output layer; on the device of torch's device context."""
    from transformers import AutoModel

    return AutoModel.from_config(sizes, attn_implementation=config.attention, dtype=_DTYPES[config.dtype])


def _from_checkpoint(config: MllmConfig, path: str, assets: Mapping[str, Any] | None, sketched: bool) -> Parts:
    from transformers import AutoConfig, AutoTokenizer

    if not holds_checkpoint(path):
        problem, cure = f"no checkpoint at {path}: config.json is missing", "give the folder of a transformers checkpoint"
        raise ConfigError(f"field 'path': {problem}", cure) if assets is None else ArtifactError(problem, "put its backbone back there")
    hashes = {} if sketched else {file.name: sha256(file) for file in sorted(Path(path).glob("*.safetensors"))}
    if assets is not None and dict(assets["backbone"]) != hashes:
        raise ArtifactError(f"checkpoint {path} is not the one that the encoder was trained on", "put that one back")
    sizes = AutoConfig.from_pretrained(path, local_files_only=True)
    if config.architecture is not None:
        check_sizes(sizes, config.architecture, path)
    model = build_model(sizes, config) if sketched else _pretrained(sizes, config, path)
    family = family_of(sizes.model_type, path)(config, sizes)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True).backend_tokenizer
    return model, family, tokenizer, {"backbone": hashes}


def _pretrained(sizes: Any, config: MllmConfig, path: str) -> nn.Module:
    from transformers import AutoModel

    with warnings.catch_warnings():
        # The output layer that an encoder leaves out.
        warnings.simplefilter("ignore")
        return AutoModel.from_pretrained(
            path,
            config=sizes,
            local_files_only=True,
            use_safetensors=True,
            dtype=_DTYPES[config.dtype],
            attn_implementation=config.attention,
        )


def check_sizes(sizes: Any, architecture: Architecture, path: str) -> None:
    """Hold a checkpoint to what the config says of it.

    Raises:
        ConfigError: Naming the first size that differs.
    """
    text, vision = sizes.text_config, sizes.vision_config
    expected = {
        "family": (sizes.model_type, architecture.family),
        "text.width": (text.hidden_size, architecture.text.width),
        "text.layers": (text.num_hidden_layers, architecture.text.layers),
        "text.heads": (text.num_attention_heads, architecture.text.heads),
        "text.kv_heads": (text.num_key_value_heads, architecture.text.kv_heads),
        "text.mlp_width": (text.intermediate_size, architecture.text.mlp_width),
        "vision.width": (vision.hidden_size, architecture.vision.width),
        "vision.layers": (vision.num_hidden_layers, architecture.vision.layers),
        "vision.patch": (vision.patch_size, architecture.vision.patch),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise ConfigError(f"field 'architecture.{name}' is {wanted!r}, checkpoint {path} has {found!r}", "correct it or leave it out")
