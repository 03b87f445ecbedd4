from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from adray.errors import DataError
from adray.generation.components import load_components
from tests.helpers.rfft_run import png, products, run
from tests.helpers.tiny_generator import SIDE


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusion")
    rng = np.random.default_rng(0)
    for name, n, seed in (("train", 64, 0), ("holdout", 16, 1)):
        table = products(n, seed)
        pictures = [{"bytes": png(rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)), "path": None} for _ in range(n)]
        table = table.append_column("image", [pictures]).append_column("prompt", [["red room, plain wall"] * n])
        pq.write_table(table, folder / f"{name}.parquet")
    return {
        "kind": "diffusion",
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "sizes": {
            "autoencoder": {"patch": 4, "latent_channels": 8},
            "text": {"vocabulary": 32, "max_tokens": 8, "width": 16, "heads": 2},
            "unet": {"channels": [16, 32], "groups": 8, "heads": 2, "edges": [4, 8, 8]},
        },
        "data": {"train": str(folder / "train.parquet"), "holdout": str(folder / "holdout.parquet"), "size": SIDE, "lanes": 4},
        "evaluation": {
            "rows": 8,
            "pictures": 3,
            "prompts": {"entries": [{"prompt": "{title}, {colour} room"}], "colours": ["red"]},
            "sampling": {"steps": 2, "guidance": 2.0},
        },
    }


def training(steps):
    return {"max_steps": steps, "batch_size": 8, "lr": 1e-3, "checkpoint_every": 2, "threads": 1, "ema_decay": 0.5}


def weights(run):
    return load_file(run.folder / "export" / "generator" / "unet" / "diffusion_pytorch_model.safetensors")


def test_a_generator_is_built_trained_and_resumed_to_the_same_weights(values):
    whole, report = run({**values, "name": "whole", "training": training(4)})
    assert report["metrics"]["train/steps"] == 4 and report["metrics"]["generation/pictures"] == 3
    assert 0 < report["metrics"]["diffusion/holdout_loss"] < 10
    assert (whole.folder / "plots" / "samples.png").is_file()
    assert load_components(whole.folder / "export" / "generator").inpaints
    run({**values, "name": "half", "training": training(2)})
    resumed, _ = run({**values, "name": "half", "training": training(4), "resume": True})
    for key, value in weights(whole).items():
        assert torch.equal(weights(resumed)[key], value), key


def test_the_controlnet_alone_is_trained_over_a_base(values, tmp_path):
    base, _ = run({**values, "name": "base", "training": training(1)})
    path = str(base.folder / "export" / "generator")
    tuned, _ = run({**values, "name": "tuned", "generator": path, "trained": ["controlnet"], "training": training(2)})
    before, after = load_components(path), load_components(tuned.folder / "export" / "generator")
    for name in ("unet", "vae", "text_encoder"):
        old = getattr(before, name).state_dict()
        assert all(torch.equal(old[key], value) for key, value in getattr(after, name).state_dict().items()), name
    old = before.controlnet.state_dict()
    assert any(not torch.equal(old[key], value) for key, value in after.controlnet.state_dict().items())


def test_pictures_that_cannot_be_read_are_quarantined_and_counted(values, tmp_path):
    table = pq.read_table(values["data"]["train"])
    rows = table.to_pylist()
    rows[3]["image"] = {"bytes": b"no picture", "path": None}
    rows[7]["cutout"] = {"bytes": png(np.zeros((SIDE // 2, SIDE, 4), np.uint8)), "path": None}
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), tmp_path / "train.parquet")
    data = {**values["data"], "train": str(tmp_path / "train.parquet"), "quarantine_limit": 0.05}
    done, report = run({**values, "name": "bad", "data": data, "training": training(1)})
    assert report["metrics"]["data/rows/train"] == 62 and report["metrics"]["data/quarantined"] == 2
    lost = pq.read_table(done.folder / "tables" / "quarantine").to_pylist()
    assert [row["key"] for row in lost] == [rows[3]["sku_id"], rows[7]["sku_id"]] and all(row["reason"] for row in lost)
    with pytest.raises(DataError, match="2 of 64"):
        run({**values, "name": "strict", "data": {**data, "quarantine_limit": 0.01}, "training": training(1)})
