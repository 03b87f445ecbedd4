"""Adapter mode: what is exported is the encoder that the cached vectors were made with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adray.config import validate
from adray.representation.creatives import Creatives
from adray.representation.encoders.factory import load_encoder
from adray.representation.moco.adapter_task import AdapterTask, frozen_encoder
from adray.representation.moco.config import AdapterConfig
from adray.representation.moco.run_config import MocoRunConfig


@pytest.mark.parametrize("seed", [0, 3])
def test_an_encoder_with_drawn_weights_is_exported_as_it_made_the_vectors(tmp_path, seed):
    values = {
        "kind": "moco",
        "name": "a",
        "seed": seed,
        "data": {"train": str(tmp_path)},
        "encoder": {"kind": "resnet", "image_size": 16, "depths": [1], "widths": [8]},
        "tune": {"name": "adapter", "hidden": 4},
        "moco": {"hidden": 8, "out": 4},
    }
    config = validate(MocoRunConfig, values, "test")
    pictures = [np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8) for i in range(3)]
    creatives = Creatives(["a", "b", "c"], ["s"] * 3, pictures, [""] * 3)
    first = frozen_encoder(config)
    assert isinstance(config.tune, AdapterConfig)
    task = AdapterTask(config, config.tune, first.dim, tmp_path)
    torch.rand(7)
    module = task.build_module()
    module.export(tmp_path)
    exported = load_encoder(tmp_path / "encoder")
    with torch.no_grad():
        # An adapter starts as the identity.
        assert torch.allclose(exported(exported.prepare(creatives)), first(first.prepare(creatives)), atol=1e-6)
