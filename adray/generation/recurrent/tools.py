"""What a worker makes pictures with: the generator and the inspector, loaded once, behind two plain functions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from adray.artifact import load_artifact
from adray.feedback.artifact import load_inspector
from adray.files import sha256
from adray.generation.components import load_components
from adray.generation.recurrent.config import GenerationRunConfig
from adray.generation.sampler import PictureMaker

Make = Callable[[np.ndarray, Sequence[str], Sequence[str], Sequence[int]], np.ndarray]
"""Cut-outs, prompts, negative prompts and seeds to pictures, as `PictureMaker`."""
Judge = Callable[[np.ndarray, np.ndarray, Sequence[str]], np.ndarray]
"""Pictures uint8 `[n, h, w, 3]`, cut-outs uint8 `[n, h, w, 4]` and n titles to probabilities float32 `[n, 5]` of `LABELS`."""


@dataclass(frozen=True)
class Tools:
    """What makes and judges pictures.

    Attributes:
        make: The generator.
        judge: The inspector; None keeps everything.
        inspector: Content hash of the inspector's artifact; empty without one.
    """

    make: Make
    judge: Judge | None = None
    inspector: str = ""


def load_tools(config: GenerationRunConfig) -> Tools:
    """Load what a config names.

    Raises:
        AdrayError: If an artifact or a folder is missing, damaged or of another kind.
    """
    device = "cuda" if config.job.gpus else "cpu"
    maker = PictureMaker(load_components(config.generator, config.controlnet), config.sampling, device, config.precision)
    if config.inspector is None:
        return Tools(maker)
    inspector = load_inspector(config.inspector).to(device)

    def judge(pictures: np.ndarray, cutouts: np.ndarray, titles: Sequence[str]) -> np.ndarray:
        found = inspector.probabilities(_tensor(pictures, device), _tensor(cutouts, device), titles)
        return found.float().cpu().numpy()

    return Tools(maker, judge, inspector.content_hash)


def generator_identity(path: str) -> str:
    """Names a generator's content: an artifact's hash, or one of a diffusers folder's files by name, size and small files' bytes.

    Weights of many gigabytes are not read for it.
    """
    folder = Path(path)
    if (folder / "artifact.json").is_file():
        return load_artifact(folder).content_hash
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
        if file.suffix == ".json":
            digest.update(sha256(file).encode())
    return digest.hexdigest()


def _tensor(pixels: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 255.0
