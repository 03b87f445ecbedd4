"""Encoders from their configs, and the artifact kind `encoder`: saved, loaded alone, checked."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.torch import save_file

from adray.artifact import Artifact, load_artifact, writing_artifact
from adray.errors import ArtifactError
from adray.files import write_json
from adray.representation.encoders.adapted import AdaptedConfig
from adray.representation.encoders.base import Encoder
from adray.representation.encoders.dual_tower import DualTowerConfig
from adray.representation.encoders.mllm_config import MllmConfig
from adray.representation.encoders.resnet import ResnetConfig
from adray.representation.encoders.vit import VitConfig

KIND = "encoder"
"""The artifact's kind."""

EncoderConfig = Annotated[DualTowerConfig | MllmConfig | ResnetConfig | VitConfig | AdaptedConfig, Field(discriminator="kind")]
"""Every encoder's config; a new one is added here and in `_BUILDERS`."""

_BUILDERS = {
    "adapted": ("adray.representation.encoders.adapted", "build_adapted"),
    "dual_tower": ("adray.representation.encoders.dual_tower", "build_dual_tower"),
    "mllm": ("adray.representation.encoders.mllm", "build_mllm"),
    "resnet": ("adray.representation.encoders.resnet", "build_resnet"),
    "vit": ("adray.representation.encoders.vit", "build_vit"),
}
"""Kind -> module and function `(config, assets) -> Encoder`; imported when first needed, as they bring large libraries."""

_CONFIG: TypeAdapter[Any] = TypeAdapter(EncoderConfig)
_TENSORS = "encoder"


def build_encoder(config: EncoderConfig) -> Encoder:
    """Build an encoder, with its pretrained weights where the config names some; others are drawn from torch's global seed.

    Args:
        config: One of the encoders' configs.

    Returns:
        The encoder on the CPU, in evaluation mode.

    Raises:
        AdrayError: If pretrained weights are missing or do not fit.
    """
    return build_from(config, None)


def build_without_weights(config: EncoderConfig) -> Encoder:
    """Build an encoder on the meta device: its sizes can be counted and it can `prepare`, but nothing is allocated or loaded.

    Args:
        config: One of the encoders' configs. A checkpoint that it names may be missing if `architecture` says its sizes.

    Raises:
        AdrayError: If a tokenizer or a package is missing.
    """
    with torch.device("meta"):
        return build_from(config, None)


def save_encoder(
    encoder: Encoder,
    config: EncoderConfig,
    folder: str | Path,
    *,
    metrics: Mapping[str, float] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> Artifact:
    """Write the artifact: config, the tensors that `stored_tensors` names, and what else `assets` says loading needs.

    Args:
        encoder: A built encoder.
        config: What it was built from.
        folder: The artifact's folder; replaced as a whole.
        metrics: Figures measured on it.
        lineage: Where it came from.

    Returns:
        The artifact as it was written. Its `content_hash` names the encoder in every vector's provenance.
    """
    values = {"encoder": config.model_dump(mode="json"), "transform_hash": encoder.transform_hash(), "dim": encoder.dim}
    with writing_artifact(folder, KIND, values, metrics, lineage) as partial:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.stored_tensors().items()}
        save_file(tensors, partial / f"{_TENSORS}.safetensors")
        write_json(partial / "assets.json", dict(encoder.assets()))
    return load_artifact(folder, KIND)


def load_encoder(source: Artifact | str | Path) -> Encoder:
    """Rebuild an encoder from its artifact.

    Args:
        source: The artifact or its folder.

    Returns:
        The encoder on the CPU, in evaluation mode; it gives the vectors that the saved one gave.

    Raises:
        ArtifactError: If it is missing, damaged, of another kind, does not fit this version, or refers to pretrained
            weights that are missing or have changed.
    """
    artifact = source if isinstance(source, Artifact) else load_artifact(source, KIND)
    if artifact.kind != KIND:
        raise ArtifactError(f"artifact {artifact.folder} is a {artifact.kind!r}, not a {KIND!r}", "give the encoder's path")
    config, assets = encoder_config(artifact), artifact.read_json("assets")
    encoder = build_from(config, assets)
    _restore(encoder, artifact)
    if encoder.transform_hash() != artifact.config["transform_hash"]:
        raise ArtifactError(
            f"artifact {artifact.folder} was made with another transform than this adray's",
            "use the adray that wrote it, or export it again",
        )
    return encoder.eval()


def encoder_config(artifact: Artifact) -> EncoderConfig:
    """The config inside an encoder's artifact.

    Raises:
        ArtifactError: If this version does not know it.
    """
    try:
        return _CONFIG.validate_python(artifact.config["encoder"])
    except (KeyError, ValidationError) as error:
        line = " ".join(str(error).split())[:200]
        raise ArtifactError(f"artifact {artifact.folder} has a config that this adray cannot read: {line}", "export it again") from None


def build_from(config: EncoderConfig, assets: Mapping[str, Any] | None) -> Encoder:
    """Build an encoder whose tensors will follow from an artifact that held `assets`; with None, from its pretrained weights."""
    module, function = _BUILDERS[config.kind]
    encoder: Encoder = getattr(importlib.import_module(module), function)(config, assets)
    return encoder.eval()


def _restore(encoder: Encoder, artifact: Artifact) -> None:
    tensors, expected = artifact.tensors(_TENSORS), encoder.stored_tensors()
    differing = sorted(set(tensors) ^ set(expected)) or [n for n in tensors if tensors[n].shape != expected[n].shape]
    if differing:
        raise ArtifactError(f"artifact {artifact.folder}: tensor {differing[0]!r} does not fit its config", "export it again")
    encoder.load_state_dict(tensors, strict=False)
