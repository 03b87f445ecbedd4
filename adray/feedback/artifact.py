"""The artifact `rfnet`: an inspector that loads alone, with what computes its maps and reads its titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from adray.artifact import Artifact, load_artifact, writing_artifact
from adray.data.labels import LABELS
from adray.errors import ArtifactError
from adray.feedback.config import MapsConfig, ModelConfig
from adray.feedback.encoders import Titles
from adray.feedback.inputs import Inputs, modalities, on_white, resized
from adray.feedback.maps import Maps
from adray.feedback.rfnet import Inspector, RFNet, build
from adray.files import write_json

KIND = "rfnet"
_MODEL: TypeAdapter[Any] = TypeAdapter(ModelConfig)


def export_inspector(
    folder: str | Path,
    net: Inspector,
    model: ModelConfig,
    maps: MapsConfig,
    metrics: Mapping[str, float] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> None:
    """Write an inspector's artifact.

    Args:
        folder: Replaced as a whole.
        net: The trained network.
        model: Its config.
        maps: What computes depth and saliency; their files stay where they are, their hashes are kept.
        metrics: Figures to keep with it.
        lineage: Where it came from.
    """
    identity = Maps(maps).identity if {"depth", "saliency"} & set(modalities(model)) else ""
    config = {
        "model": model.model_dump(mode="json"),
        "maps": maps.model_dump(mode="json"),
        "maps_identity": identity,
        "labels": list(LABELS),
    }
    with writing_artifact(folder, KIND, config, metrics, lineage) as partial:
        tensors = {name: value.detach().float().cpu().contiguous() for name, value in net.state_dict().items()}
        save_file(tensors, partial / "model.safetensors")
        write_json(partial / "assets.json", net.assets())


class LoadedInspector(nn.Module):
    """An inspector as it is used: pictures, cut-outs and titles in, probabilities of `LABELS` out.

    Attributes:
        net: The network, in evaluation mode, without gradients to its weights.
        maps: Depth and saliency; None where the network reads neither.
        content_hash: Of its artifact.
    """

    def __init__(self, net: Inspector, model: ModelConfig, maps: Maps | None, titles: Titles | None, content_hash: str) -> None:
        super().__init__()
        self.net, self.maps, self._titles = net, maps, titles
        self.model = model
        self.content_hash = content_hash
        self.eval().requires_grad_(False)

    def tokenize(self, titles: Sequence[str]) -> tuple[Tensor, Tensor] | None:
        """Ids and mask of titles, int64 `[n, length]` each; None where the network reads none."""
        return None if self._titles is None else self._titles(titles)

    def forward(
        self, pictures: Tensor, cutouts: Tensor, titles: Sequence[str] | tuple[Tensor, Tensor] | None = None, *, detach_maps: bool = False
    ) -> Tensor:
        """Logits of pictures. Gradients reach `pictures`, also through depth and saliency unless `detach_maps` is set.

        Args:
            pictures: float `[n, 3, height, width]` in [0, 1].
            cutouts: float `[n, 4, height, width]` in [0, 1], straight alpha.
            titles: n texts, or what `tokenize` gave for them.
            detach_maps: Compute depth and saliency without gradient.

        Returns:
            float `[n, 5]`, in the order of `LABELS`.
        """
        side = self.model.image_size
        read = modalities(self.model)
        found: dict[str, Tensor] = {}
        if "product" in read:
            found["product"] = resized(on_white(cutouts), side)
        if "generated" in read:
            found["generated"] = resized(pictures, side)
        if self.maps is not None:
            depth, saliency = self.maps(pictures.detach() if detach_maps else pictures)
            for name, value in (("depth", depth), ("saliency", saliency)):
                if name in read:
                    found[name] = resized(value, side).expand(-1, 3, -1, -1)
        tokens = mask = None
        if self._titles is not None:
            given = titles if isinstance(titles, tuple) else self._titles(list(titles or [""] * len(pictures)))
            tokens, mask = (t.to(pictures.device) for t in given)
        return self.net(Inputs(found, tokens, mask))

    @torch.no_grad()
    def probabilities(self, pictures: Tensor, cutouts: Tensor, titles: Sequence[str] | None = None) -> Tensor:
        """float `[n, 5]`, as `forward` but after the softmax and without gradient."""
        return self(pictures, cutouts, titles).softmax(dim=1)


def load_inspector(source: str | Path | Artifact) -> LoadedInspector:
    """Load an inspector.

    Args:
        source: The artifact or its folder.

    Raises:
        ArtifactError: If it is missing, damaged, of another kind or version, or what computes its maps has changed.
        ConfigError: If a depth or saliency network that it names cannot be loaded.
    """
    artifact = source if isinstance(source, Artifact) else load_artifact(source, KIND)
    if artifact.kind != KIND:
        raise ArtifactError(f"artifact {artifact.folder} is a {artifact.kind!r}, not a {KIND!r}", "give an inspector's path")
    try:
        model = _MODEL.validate_python(artifact.config["model"])
        maps_config = MapsConfig.model_validate(artifact.config["maps"])
    except (KeyError, ValidationError) as error:
        line = " ".join(str(error).split())[:200]
        raise ArtifactError(f"artifact {artifact.folder} has a config that this adray cannot read: {line}", "export it again") from None
    assets = artifact.read_json("assets")
    net = build(model, assets)
    tensors = artifact.tensors()
    if set(tensors) != set(net.state_dict()):
        name = sorted(set(tensors) ^ set(net.state_dict()))[0]
        raise ArtifactError(f"artifact {artifact.folder}: tensor {name!r} does not fit its config", "export it again")
    net.load_state_dict(tensors)
    maps = Maps(maps_config) if {"depth", "saliency"} & set(modalities(model)) else None
    if maps is not None and maps.identity != artifact.config["maps_identity"]:
        raise ArtifactError(
            f"artifact {artifact.folder} was trained on maps of {artifact.config['maps_identity']}, not {maps.identity}",
            "put its depth and saliency networks back, or train again",
        )
    titles = net.title.tokenize if isinstance(net, RFNet) and net.title is not None else None
    return LoadedInspector(net, model, maps, titles, artifact.content_hash)
