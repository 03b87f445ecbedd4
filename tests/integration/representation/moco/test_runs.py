"""Whole MoCo runs through the command line's own functions, on a small folder of drawn pictures of known classes."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from adray import kinds
from adray.errors import AdrayError
from adray.representation.encoders.factory import build_encoder, load_encoder
from adray.representation.moco.module import MocoModule
from adray.representation.picture_folder import creatives_of_folder
from adray.training.reporter import TrainingStoppedError

SHAPES = ("circle", "cross", "bars")


def draw(shape, rng):
    picture = Image.new("RGB", (48, 40), tuple(rng.integers(120, 256, 3).tolist()))
    pen, colour = ImageDraw.Draw(picture), tuple(rng.integers(0, 110, 3).tolist())
    x, y = rng.integers(6, 16, 2).tolist()
    if shape == "circle":
        pen.ellipse([x, y, x + 20, y + 20], fill=colour)
    elif shape == "cross":
        pen.line([x, y, x + 20, y + 20], fill=colour, width=4)
        pen.line([x + 20, y, x, y + 20], fill=colour, width=4)
    else:
        for k in range(3):
            pen.rectangle([x + 8 * k, 4, x + 8 * k + 3, 36], fill=colour)
    return picture


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for shape in SHAPES:
            (folder / split / shape).mkdir(parents=True)
            for i in range(count):
                draw(shape, rng).save(folder / split / shape / f"{i}.png")
    return folder


def config(pictures, runs, name, **sections):
    values = {
        "kind": "moco",
        "name": name,
        "runs_dir": str(runs),
        "data": {"train": str(pictures / "train"), "test": str(pictures / "test")},
        "encoder": {"kind": "resnet", "image_size": 24, "depths": [1, 1], "widths": [8, 16]},
        "moco": {"hidden": 32, "out": 16},
        "views": {"preset": "creative"},
        "training": {"epochs": 4, "batch_size": 24, "lr": 3e-3, "log_every": 1, "evaluate_every": 2, "checkpoint_every": 5},
    }
    for key, value in sections.items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) and key != "encoder" else value
    return kinds.make_job(values, name)


def perform(job, verb="train"):
    return kinds.perform(job, verb)


@pytest.fixture(scope="module")
def scratch(pictures, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    _, report = perform(config(pictures, runs, "whole"))
    return runs, report


def test_a_run_reports_its_gain_and_curve(scratch):
    runs, report = scratch
    metrics = report["metrics"]
    assert metrics["representation/knn_gain"] == pytest.approx(
        metrics["representation/knn_accuracy"] - metrics["representation/knn_random_init"], abs=1e-9
    )
    assert metrics["representation/knn_gain_low"] <= metrics["representation/knn_gain"] <= metrics["representation/knn_gain_high"]
    assert metrics["train/loss_floor"] < metrics["train/loss"] < metrics["train/loss_chance"]
    assert metrics["data/rows/train"] == 72 and metrics["data/rows/test"] == 24
    assert (runs / "whole" / "plots" / "learning.png").stat().st_size > 5000
    assert load_encoder(runs / "whole" / "export" / "encoder").dim == 16


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(scratch, pictures, monkeypatch):
    """Stopped inside an epoch; the key network, its statistics and the momentum schedule go on where they were."""
    runs, _ = scratch
    before_step = MocoModule.before_step

    def stopping(self, progress):
        if round(progress * 12) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        before_step(self, progress)

    with monkeypatch.context() as patch, pytest.raises(TrainingStoppedError, match="step 5"):
        patch.setattr(MocoModule, "before_step", stopping)
        perform(config(pictures, runs, "resumed"))
    perform(config(pictures, runs, "resumed", resume=True))
    rows = [
        {
            row["step"]: row["train/loss"]
            for row in map(json.loads, (runs / name / "metrics.jsonl").read_text().splitlines())
            if "train/loss" in row
        }
        for name in ("whole", "resumed")
    ]
    assert rows[0] == rows[1]
    weights = [load_file(runs / name / "export" / "encoder" / "encoder.safetensors") for name in ("whole", "resumed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_evaluate_finds_the_same_again(scratch, pictures):
    runs, report = scratch
    _, again = perform(config(pictures, runs, "whole"), "evaluate")
    for name in ("representation/knn_accuracy", "representation/knn_gain", "representation/knn_gain_low"):
        assert again["metrics"][name] == report["metrics"][name]


def test_streaming_trains_as_well(pictures, tmp_path):
    table = creatives_of_folder(str(pictures / "train"))
    pq.write_table(table, tmp_path / "creatives.parquet")
    data = {"train": str(tmp_path / "creatives.parquet"), "test": None, "cache": False, "lanes": 2}
    _, report = perform(config(pictures, tmp_path, "streamed", data=data, training={"epochs": 1}))
    assert report["metrics"]["train/steps"] == 3
    assert report["metrics"]["train/loss"] < report["metrics"]["train/loss_chance"]


def test_an_adapter_refines_a_frozen_encoder(scratch, pictures, tmp_path, capfd):
    encoder = {"kind": "dual_tower", "modalities": "image", "image_size": 32}
    job = config(pictures, tmp_path, "adapter", encoder=encoder, tune={"name": "adapter", "views": 3, "hidden": 16})
    _, report = perform(job)
    assert {"representation/knn_untuned", "representation/knn_gain", "representation/knn_gain_low"} <= report["metrics"].keys()
    vectors = np.load(tmp_path / "adapter" / "vectors" / "vectors.npy")
    assert vectors.shape == (72, 3, 1280) and vectors.dtype == np.float16
    assert "encoding 3 views of creatives: 72 of 72" in capfd.readouterr().err
    exported = load_encoder(tmp_path / "adapter" / "export" / "encoder")
    assert exported.adapter.residual.layers[-1].weight.abs().sum() > 0
    # What was exported reads creatives, and is what was measured during training on cached vectors.
    rows = [json.loads(line) for line in (tmp_path / "adapter" / "metrics.jsonl").read_text().splitlines()]
    last = [row["representation/knn_accuracy"] for row in rows if "representation/knn_accuracy" in row][-1]
    assert report["metrics"]["representation/knn_accuracy"] == pytest.approx(last, abs=1 / 24 + 1e-9)


def test_lora_changes_an_encoder_a_little(pictures, tmp_path):
    rng = np.random.default_rng(1)
    table = creatives_of_folder(str(pictures / "train"))
    copies = pa.array([f"a {path.split('/')[0]} number {rng.integers(9)} on sale" for path in table["creative_id"].to_pylist()])
    skus = pa.array([f"sku{i // 2}" for i in range(table.num_rows)])
    table = table.set_column(table.column_names.index("copy"), "copy", copies).set_column(1, "sku_id", skus)
    pq.write_table(table.slice(0, 32), tmp_path / "creatives.parquet")
    job = config(
        pictures,
        tmp_path,
        "lora",
        data={"train": str(tmp_path / "creatives.parquet"), "test": None},
        encoder={"kind": "dual_tower", "image_size": 32, "max_tokens": 16, "train_towers": True},
        tune={"name": "lora", "rank": 2, "targets": ["query", "value"], "unfreeze": [r"picture\.net\._conv_head"]},
        pairs={"augmented": 1, "copy_dropout": 1, "same_sku": 1, "modality": 1, "image_copy": 1},
        training={"epochs": 1, "batch_size": 16},
    )
    _, report = perform(job)
    assert {f"train/loss_{kind}" for kind in ("augmented", "same_sku", "image_copy")} & report["metrics"].keys()
    tuned, plain = load_encoder(tmp_path / "lora" / "export" / "encoder"), build_encoder(job.config.encoder)
    changed = {name for name, p in tuned.state_dict().items() if not torch.equal(p, plain.state_dict()[name])}
    assert changed and all("query.weight" in n or "value.weight" in n or "_conv_head" in n for n in changed)


def test_wrong_settings_are_told(pictures, tmp_path):
    for sections, text in [
        ({"encoder": {"kind": "dual_tower"}}, "tune.name is scratch, but a dual_tower is pretrained"),
        ({"training": {"zero_stage": 3}}, "needs whole weights on every worker"),
        ({"training": {"precision": "bf16", "zero_stage": 1}}, "use bf16_mixed"),
        ({"encoder": {"kind": "dual_tower"}, "tune": {"name": "lora"}}, "no gradient enters the towers"),
    ]:
        with pytest.raises(AdrayError, match=text):
            config(pictures, tmp_path, "wrong", **sections)
    missing = config(Path("/nowhere"), tmp_path, "missing")
    with pytest.raises(AdrayError, match="data.train"):
        perform(missing)
