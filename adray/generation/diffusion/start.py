"""What training starts from: a generator that is there, or one that is built into the run's folder once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adray.artifact import load_artifact
from adray.data.parquet import open_parquet
from adray.data.stream import iterate
from adray.errors import ArtifactError
from adray.files import replacing_folder
from adray.generation.artifact import export_generator
from adray.generation.autoencoder import fit_autoencoder
from adray.generation.components import KIND, copied_controlnet, has_part, load_part
from adray.generation.diffusion.building import build_components
from adray.generation.diffusion.config import DiffusionRunConfig
from adray.generation.diffusion.source import PictureCollate, Pictures, picture_columns

FOLDER = "start"
_BATCH = 512


@dataclass(frozen=True)
class Start:
    """Where `load_components` finds the generator that training starts from.

    Attributes:
        path: Its folder.
        controlnet: The ControlNet's own folder; None where it lies in `path`.
    """

    path: str
    controlnet: str | None = None


def prepare_start(config: DiffusionRunConfig, folder: Path, train: str) -> Start:
    """Build what training starts from, unless it is there.

    Args:
        config: The run.
        folder: The run's folder.
        train: The run's table of training pictures.

    Raises:
        DataError: If the pictures cannot be read.
        ConfigError: If a part of the generator cannot be loaded.
    """
    start = folder.absolute() / FOLDER
    if config.generator is None:
        if _recipe_of(start) != _recipe(config):
            _build(config, start, train)
        return Start(str(start))
    if config.controlnet is not None or has_part(config.generator, "controlnet"):
        return Start(config.generator, config.controlnet)
    controlnet = start / "controlnet"
    if not controlnet.is_dir():
        _copy_encoder(config.generator, controlnet)
    return Start(config.generator, str(controlnet))


def _build(config: DiffusionRunConfig, start: Path, train: str) -> None:
    wanted = config.sizes.autoencoder.pictures
    collate = PictureCollate(config.data.size, config.caption, picture_columns(open_parquet(train).schema.names, config.caption, train))
    captions: list[str] = []

    def pictures() -> Iterator[Tensor]:
        rows: Iterator[Pictures] = iterate(train, _BATCH, collate.columns, collate)
        for batch in rows:
            captions.extend(whole for whole, _ in batch.captions)
            yield torch.from_numpy(batch.pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0
            if len(captions) >= wanted:
                break

    vae = fit_autoencoder(pictures(), config.sizes.autoencoder.patch, config.sizes.autoencoder.latent_channels)
    torch.manual_seed(config.seed)
    export_generator(start, build_components(config.sizes, vae, captions), lineage={"recipe": _recipe(config)})


def _copy_encoder(generator: str, folder: Path) -> None:
    controlnet = copied_controlnet(load_part(generator, "unet"), load_part(generator, "vae"))
    with replacing_folder(folder) as partial:
        controlnet.save_pretrained(partial)


def _recipe(config: DiffusionRunConfig) -> dict[str, object]:
    """All that the built generator depends on."""
    kept = config.model_dump(mode="json", include={"seed", "sizes", "caption"})
    return {**kept, "train": config.data.train, "size": config.data.size}


def _recipe_of(start: Path) -> object:
    try:
        return load_artifact(start, KIND).lineage.get("recipe")
    except ArtifactError:
        return None
