"""Depth and saliency of pictures, behind one small interface.

The paper uses DPT and U2-Net. The embedded defaults need no weights and are ours; they are differentiable, so that feedback can
reach a generator through them.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.errors import ConfigError
from adray.feedback.config import MapsConfig

_EPSILON = 1e-6
"""Under square roots, whose gradient at 0 is infinite."""


class PictureMap(nn.Module):
    """One grey map per picture.

    Attributes:
        identity: Names what computes the map; equal identities give equal maps.
    """

    identity: str
    _mean: Tensor
    _std: Tensor

    @abstractmethod
    def forward(self, pictures: Tensor) -> Tensor:
        """Compute maps.

        Args:
            pictures: float `[n, 3, height, width]`, RGB in [0, 1].

        Returns:
            float `[n, 1, height, width]` in [0, 1].
        """


class GroundDepth(PictureMap):
    """Embedded depth: how far each thing stands in front of the wall, told by the row on which it meets the ground.

    The ground begins at the row where the mean colour above and below differ most (a soft maximum) and comes nearer towards
    the picture's bottom. What differs from the usual colour of its row takes the depth of the lowest row that it reaches without a
    break: the classic cue of height in the field of vision. A thing that floats before the wall so stays as far as the wall.
    """

    identity = "ground-1"
    _SHARPNESS = 60.0

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        rows = pictures.shape[2]
        line = self._line(pictures)
        at = torch.arange(rows, device=pictures.device, dtype=pictures.dtype) + 0.5
        plane = ((at - line[:, None]) / (rows - line[:, None] + 1.0)).clamp(0, 1)
        usual = pictures.mean(dim=3, keepdim=True)
        # The mean over the outer quarters, where products seldom are, is the less stained background.
        edge = max(1, pictures.shape[3] // 8)
        usual = 0.5 * usual + 0.25 * (pictures[..., :edge].mean(dim=3, keepdim=True) + pictures[..., -edge:].mean(dim=3, keepdim=True))
        distance = ((pictures - usual) ** 2).sum(dim=1)
        thing = 1.0 - torch.exp(-distance / 0.04)
        depth = []
        carried = torch.zeros_like(thing[:, 0])
        for row in range(rows - 1, -1, -1):
            own = plane[:, row, None]
            carried = own + thing[:, row] * (torch.maximum(carried, own) - own)
            depth.append(carried)
        return torch.stack(depth[::-1], dim=1)[:, None]

    def _line(self, pictures: Tensor) -> Tensor:
        """The soft row `[n]` at which the ground begins."""
        rows = pictures.shape[2]
        band = max(1, rows // 16)
        profile = F.pad(pictures.mean(dim=3).cumsum(dim=2), (1, 0))
        at = torch.arange(max(band, round(0.25 * rows)), min(rows - band, round(0.92 * rows)), device=pictures.device)
        above = (profile[..., at] - profile[..., at - band]) / band
        below = (profile[..., at + band] - profile[..., at]) / band
        step = (((below - above) ** 2).sum(dim=1) + _EPSILON).sqrt()
        weight = torch.softmax(self._SHARPNESS * step, dim=1)
        return (weight * at.to(pictures.dtype)).sum(dim=1)


class ContrastSaliency(PictureMap):
    """Embedded saliency: colour contrast of each place with its surroundings at three scales.

    After the centre-surround maps of Itti et al. (1998) and the frequency-tuned saliency of Achanta et al. (2009).
    """

    identity = "contrast-1"

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        side = min(pictures.shape[2:])
        total = torch.zeros_like(pictures[:, :1])
        for near, far in ((1, side // 16), (side // 32, side // 6), (side // 16, side // 3)):
            centre, surround = _blur(pictures, near), _blur(pictures, far)
            total = total + (((centre - surround) ** 2).sum(dim=1, keepdim=True) + _EPSILON).sqrt()
        return 1.0 - torch.exp(-2.0 * total)


def _blur(pictures: Tensor, radius: int) -> Tensor:
    """Mean over squares of side `2 radius + 1`, smaller at the borders."""
    if radius < 1:
        return pictures
    # Along rows, then along columns: the same mean at a fraction of the cost.
    side = 2 * radius + 1
    across = F.avg_pool2d(pictures, (1, side), stride=1, padding=(0, radius), count_include_pad=False)
    return F.avg_pool2d(across, (side, 1), stride=1, padding=(radius, 0), count_include_pad=False)


class TransformersDepth(PictureMap):
    """A depth estimator of transformers, from a folder; the nearer, the brighter.

    Args:
        path: Folder of a DPT or Depth Anything checkpoint.

    Raises:
        ConfigError: If it cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        try:
            self.net = AutoModelForDepthEstimation.from_pretrained(path, local_files_only=True)
            processor = AutoImageProcessor.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigError(
                f"maps.depth {path} cannot be loaded: {' '.join(str(error).split())[:200]}", "give a checkpoint's folder"
            ) from None
        size = processor.size
        self._side = int(size["height"] if "height" in size else size["shortest_edge"])
        self.register_buffer("_mean", torch.tensor(processor.image_mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(processor.image_std).view(1, 3, 1, 1), persistent=False)
        self.identity = f"transformers-{_folder_hash(path)}"
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """See `PictureMap`; relative depth is stretched to [0, 1] within each picture."""
        scaled = F.interpolate(pictures, (self._side, self._side), mode="bilinear", antialias=True, align_corners=False)
        depth = self.net(pixel_values=(scaled - self._mean) / self._std).predicted_depth[:, None]
        depth = F.interpolate(depth, pictures.shape[2:], mode="bilinear", align_corners=False)
        low, high = depth.amin(dim=(1, 2, 3), keepdim=True), depth.amax(dim=(1, 2, 3), keepdim=True)
        return (depth - low) / (high - low + _EPSILON)


class OnnxSaliency(PictureMap):
    """A saliency network in ONNX, such as U2-Net: one picture input `[n, 3, side, side]`, the first output `[n, 1, side, side]`.

    No gradient passes through it.

    Args:
        path: The file.

    Raises:
        ConfigError: If it cannot be loaded or has another form.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        import onnxruntime  # type: ignore[import-untyped]

        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class.
            raise ConfigError(f"maps.saliency {path} cannot be loaded: {' '.join(str(error).split())[:200]}", "give an ONNX file") from None
        first = self._session.get_inputs()[0]
        if len(first.shape) != 4:
            raise ConfigError(f"maps.saliency {path} has an input of shape {first.shape}", "it must take pictures [n, 3, height, width]")
        self._name, self._side = first.name, first.shape[2] if isinstance(first.shape[2], int) else 320
        self.identity = f"onnx-{hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}"

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """See `PictureMap`; U2-Net's own normalisation, output stretched to [0, 1] within each picture."""
        scaled = F.interpolate(pictures, (self._side, self._side), mode="bilinear", antialias=True, align_corners=False)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        values = ((scaled.cpu() - mean) / std).numpy().astype(np.float32)
        found = torch.from_numpy(self._session.run(None, {self._name: values})[0]).to(pictures)
        found = F.interpolate(found, pictures.shape[2:], mode="bilinear", align_corners=False)
        low, high = found.amin(dim=(1, 2, 3), keepdim=True), found.amax(dim=(1, 2, 3), keepdim=True)
        return (found - low) / (high - low + _EPSILON)


class Maps(nn.Module):
    """Depth and saliency together.

    Args:
        config: What computes them.
    """

    def __init__(self, config: MapsConfig) -> None:
        super().__init__()
        self.depth: PictureMap = GroundDepth() if config.depth is None else TransformersDepth(config.depth)
        self.saliency: PictureMap = ContrastSaliency() if config.saliency is None else OnnxSaliency(config.saliency)

    @property
    def identity(self) -> str:
        """Names both."""
        return f"{self.depth.identity},{self.saliency.identity}"

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Depth and saliency of float `[n, 3, height, width]` in [0, 1]: `[n, 1, height, width]` each."""
        return self.depth(pictures), self.saliency(pictures)


def _folder_hash(path: str) -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(path).glob("*")):
        if file.suffix in {".json", ".safetensors"}:
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
