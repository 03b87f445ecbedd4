"""The artifact `generator`: an adray artifact whose files have diffusers' own layout."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adray.artifact import writing_artifact
from adray.generation.components import KIND, PARTS, Components


def export_generator(
    folder: str | Path, components: Components, metrics: Mapping[str, float] | None = None, lineage: Mapping[str, Any] | None = None
) -> None:
    """Write a generator's artifact; diffusers' `from_pretrained` reads its parts too.

    Args:
        folder: Replaced as a whole.
        components: The generator.
        metrics: Figures to keep with it.
        lineage: Where it came from.
    """
    config = {
        "layout": "diffusers",
        "prediction_type": components.scheduler.config.prediction_type,
        "pixels_per_cell": components.latent_scale,
    }
    with writing_artifact(folder, KIND, config, metrics, lineage) as partial:
        for name in PARTS:
            part = getattr(components, name)
            if isinstance(part, torch.nn.Module):
                # Weights may be half or on a GPU where they were trained; files hold fp32.
                part = copy.deepcopy(part).float().cpu()
            part.save_pretrained(partial / name)
