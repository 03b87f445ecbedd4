"""The parts of a generator, from an artifact or any folder of diffusers' layout, or on the meta device from their configs alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adray.errors import ArtifactError, ConfigError

KIND = "generator"
"""Kind of the artifact that holds a generator."""
PARTS = ("unet", "controlnet", "vae", "text_encoder", "tokenizer", "scheduler")
"""The folders of diffusers' layout that are read."""
_EDGE_CHANNELS = (16, 32, 96, 256)
"""Channels of a ControlNet's look at the edges, as published; each but the first halves the picture."""


@dataclass
class Components:
    """A generator's parts, each as diffusers or transformers knows it.

    Attributes:
        unet: `UNet2DConditionModel`.
        controlnet: `ControlNetModel`.
        vae: `AutoencoderKL`, or `PatchAutoencoder`.
        text_encoder: `CLIPTextModel`.
        tokenizer: Turns prompts into ids; None where only shapes are followed.
        scheduler: The noise schedule that it was trained with.
    """

    unet: Any
    controlnet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any

    def networks(self) -> list[nn.Module]:
        """The four networks."""
        return [self.unet, self.controlnet, self.vae, self.text_encoder]

    def to(self, device: torch.device | str) -> Components:
        """Move the networks, in place."""
        for network in self.networks():
            network.to(device)
        return self

    @property
    def latent_scale(self) -> int:
        """Pixels per latent cell."""
        return _cell(self.vae)

    @property
    def multiple(self) -> int:
        """What a picture's sides must be multiples of, in pixels: whole cells on every level of the UNet."""
        return int(self.latent_scale * 2 ** (len(self.unet.config["block_out_channels"]) - 1))

    @property
    def inpaints(self) -> bool:
        """Whether the UNet reads the mask and the masked picture beside x_t, as Stable Diffusion's inpainting checkpoints do."""
        return int(self.unet.config["in_channels"]) == 2 * int(self.vae.config["latent_channels"]) + 1


def load_components(path: str | Path, controlnet: str | Path | None = None) -> Components:
    """Load a generator; nothing is fetched, and weights are read from safetensors alone.

    Args:
        path: An artifact of kind `generator`, whose files are then verified, or a folder that diffusers saved: `unet/`, `vae/`, ...
        controlnet: A ControlNet's folder, in place of `path/controlnet`.

    Raises:
        ArtifactError: If the artifact is damaged.
        ConfigError: If a part is missing or cannot be loaded.
    """
    folders = _folders(path, controlnet)
    loaded = {name: _load(name, folder) for name, folder in folders.items()}
    for name in ("unet", "controlnet", "vae", "text_encoder"):
        loaded[name].eval()
    return Components(**loaded)


def has_part(path: str | Path, name: str) -> bool:
    """Whether a generator's folder holds a part, such as `controlnet`."""
    return (Path(path) / name).is_dir()


def load_part(path: str | Path, name: str) -> Any:
    """Load one part of a generator from its folder; see `load_components`.

    Raises:
        ConfigError: If it is missing or cannot be loaded.
    """
    folder = Path(path) / name
    if not folder.is_dir():
        raise ConfigError(f"generator {path} has no {name} in {folder}", "give a folder of diffusers' layout")
    return _load(name, folder)


def meta_components(path: str | Path, controlnet: str | Path | None = None, copied: bool = False) -> Components:
    """Build a generator on the meta device from its configs: shapes without memory. No weights need to be there.

    Args:
        path: As for `load_components`.
        controlnet: Likewise.
        copied: Take the ControlNet's shape from the UNet: one that starts as a copy of its encoder.

    Raises:
        ConfigError: If a part's config is missing or unknown.
    """
    folders = _folders(path, controlnet, [name for name in PARTS if not copied or name != "controlnet"], verify=False)
    built: dict[str, Any] = {}
    with torch.device("meta"):
        for name, folder in folders.items():
            built[name] = _load(name, folder) if name in ("tokenizer", "scheduler") else _empty(name, folder)
        if copied:
            built["controlnet"] = copied_controlnet(built["unet"], built["vae"], weights=False)
    return Components(**built)


def copied_controlnet(unet: Any, vae: Any, weights: bool = True) -> Any:
    """A ControlNet that starts as a copy of a UNet's encoder and says nothing yet (Zhang et al. 2023).

    Args:
        unet: The generator's. Of an inpainting UNet's inputs the ControlNet takes x_t alone.
        vae: Its autoencoder: its cells tell how often the picture of edges is halved.
        weights: Copy the weights too, which the meta device does not have.
    """
    from diffusers import ControlNetModel

    halvings = _cell(vae).bit_length() - 1
    edges = [*_EDGE_CHANNELS, *_EDGE_CHANNELS[-1:] * halvings][: halvings + 1]
    made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=tuple(edges), load_weights_from_unet=weights)
    channels, wide = int(vae.config["latent_channels"]), made.conv_in
    if wide.in_channels > channels:
        made.conv_in = nn.Conv2d(channels, wide.out_channels, wide.kernel_size, padding=wide.padding)
        made.conv_in.load_state_dict({"weight": wide.weight[:, :channels], "bias": wide.bias})
        made.register_to_config(in_channels=channels)
    return made


def _cell(vae: Any) -> int:
    config = vae.config
    return int(config["patch"]) if "patch" in config else 2 ** (len(config["block_out_channels"]) - 1)


def _folders(path: str | Path, controlnet: str | Path | None, parts: Sequence[str] = PARTS, verify: bool = True) -> dict[str, Path]:
    from adray.artifact import load_artifact

    root = Path(path)
    if not root.is_dir():
        raise ArtifactError(f"no generator at {root}", "train one with a config of kind diffusion, or give a folder of diffusers' layout")
    if verify and (root / "artifact.json").is_file():
        load_artifact(root, KIND)
    folders = {name: root / name for name in parts}
    if controlnet is not None:
        # A ControlNet saved alone is its folder itself; in a pipeline's folder it is a part.
        own = Path(controlnet)
        folders["controlnet"] = own if (own / "config.json").is_file() else own / "controlnet"
    for name, folder in folders.items():
        if not folder.is_dir():
            cure = "set controlnet to a ControlNet's folder" if name == "controlnet" else "give a folder of diffusers' layout"
            raise ConfigError(f"generator {root} has no {name} in {folder}", cure)
    return folders


def _load(name: str, folder: Path) -> Any:
    import diffusers
    from transformers import AutoTokenizer, CLIPTextModel

    from adray.generation.autoencoder import PatchAutoencoder

    try:
        if name == "tokenizer":
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if name == "text_encoder":
            return CLIPTextModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        if name == "scheduler":
            # Samplers are chosen by the run; all of them read the same noise schedule.
            return diffusers.DDIMScheduler.from_pretrained(folder, local_files_only=True)
        return _class(name, folder, PatchAutoencoder).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        problem = f"generator's {name} in {folder} cannot be loaded: {' '.join(str(error).split())[:200]}"
        raise ConfigError(problem, "give a folder of diffusers' layout with safetensors weights") from None


def _empty(name: str, folder: Path) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    from adray.generation.autoencoder import PatchAutoencoder

    if name == "text_encoder":
        return CLIPTextModel(CLIPTextConfig.from_dict(_config(folder)))
    return _class(name, folder, PatchAutoencoder).from_config(_config(folder))


def _class(name: str, folder: Path, patches: type) -> Any:
    import diffusers

    if name == "vae":
        return patches if _config(folder).get("_class_name") == patches.__name__ else diffusers.AutoencoderKL
    return {"unet": diffusers.UNet2DConditionModel, "controlnet": diffusers.ControlNetModel}[name]


def _config(folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / 'config.json'} cannot be read: {error}", "give a folder of diffusers' layout") from None
    return values
