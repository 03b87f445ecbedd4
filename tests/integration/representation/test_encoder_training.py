"""A small Qwen3-VL from sizes, trained with LoRA and GradCache under ZeRO-2 on two workers, from table to judged artifact."""

from __future__ import annotations

import json

import pytest
import torch

from adray import kinds
from adray.artifact import load_artifact
from adray.representation.contrastive.batch import HeldOutCollate
from adray.representation.encoders.factory import load_encoder
from adray.run import read_report
from tests.helpers.coloured_creatives import write_creatives

EPOCHS = 6

pytestmark = pytest.mark.timeout(600)


def values(folder, name, **training):
    """Pictures of two colours and their names: 36 meanings, 16 tokens of picture and copy each."""
    return {
        "kind": "encoder",
        "name": name,
        "runs_dir": str(folder),
        "encoder": {
            "kind": "mllm",
            "architecture": {
                "family": "qwen3_vl",
                "tokenizer": "bytes",
                "text": {"width": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "mlp_width": 128},
                "vision": {"width": 32, "layers": 1, "heads": 2, "mlp_width": 64, "patch": 8, "deepstack": [0], "positions": 16},
            },
            "instruction": "Represent.",
            "max_tokens": 96,
            "min_pixels": 1024,
            "max_pixels": 1024,
        },
        "pairs": {"path": str(folder / "creatives.parquet"), "picture_side": 32, "lanes": 2, "holdout": 0.2},
        "objective": {"temperature": 0.1, "chunk_rows": 16, "matryoshka": [16, 64]},
        "training": {"batch_size": 64, "lr": 0.002, "warmup": 3, "clip_norm": 1.0, "log_every": 1, "checkpoint_every": 1000, **training},
        "evaluation": {"recall_at": [1, 5], "batch_rows": 32},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    write_creatives(folder / "creatives.parquet", 400)
    return folder


@pytest.fixture(scope="module")
def trained(folder, ray_cluster):
    job = kinds.make_job(values(folder, "two", workers=2, zero_stage=2, epochs=EPOCHS), "test")
    run, report = kinds.perform(job, "train")
    return run, report["metrics"], job


def test_pictures_find_their_copy(trained):
    _, metrics, _ = trained
    assert metrics["train/world_size"] == 2
    assert metrics["representation/chance@1"] < 0.1
    for way in ("image_to_copy", "copy_to_image"):
        assert metrics[f"representation/{way}/recall@1"] > 0.35
        assert metrics[f"representation/{way}/recall@5/dim_16"] > 0.6


def test_the_picture_is_looked_at(trained):
    _, metrics, _ = trained
    ablation = {name: metrics[f"representation/ablation/{name}"] for name in ("full", "copy", "shuffled")}
    assert ablation["shuffled"] < ablation["full"] - 0.15
    assert ablation["copy"] != ablation["full"]


def test_negatives_come_from_both_workers(trained):
    _, metrics, _ = trained
    # 64 columns, less those of the same SKU or copy (1 in 36); each worker has 32 rows.
    assert 50 < metrics["train/negatives"] < 63
    assert metrics["train/loss"] < 0.7 * metrics["train/chance_loss"]
    assert 0 < metrics["train/floor_loss"] < 0.02


def test_two_workers_with_grad_cache_equal_one_without(trained, folder):
    run, _, _ = trained
    plain = values(folder, "one", workers=0, max_steps=6)
    plain["objective"]["chunk_rows"] = 0
    alone, _ = kinds.perform(kinds.make_job(plain, "test"), "train")
    losses = []
    for each in (run, alone):
        rows = [json.loads(line) for line in (each.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        losses.append([row["train/loss"] for row in rows if row.get("train/loss") is not None][:6])
    # The same rows in each step, the same weights after it.
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert losses[0][5] < losses[0][0]


def test_artifact_gives_the_same_figures(trained):
    run, metrics, job = trained
    artifact = load_artifact(run.folder / "export" / "encoder", "encoder")
    assert artifact.metrics["representation/picture_gain"] == metrics["representation/picture_gain"]
    kinds.perform(job, "evaluate")
    again = read_report(run.folder)["metrics"]
    assert again["representation/image_to_copy/recall@1"] == pytest.approx(metrics["representation/image_to_copy/recall@1"], abs=0.02)


def test_batched_equals_alone(trained):
    run, _, _ = trained
    import pyarrow.parquet as pq

    encoder = load_encoder(run.folder / "export" / "encoder")
    rows = pq.read_table(run.folder / "pairs" / "holdout").slice(0, 6)
    collate = HeldOutCollate(encoder, 32)
    with torch.no_grad():
        together = encoder(collate(rows).whole)
        alone = torch.cat([encoder(collate(rows.slice(i, 1)).whole) for i in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_dual_tower_with_both_views(folder):
    """The pretrained towers in this process: projections alone are trained, and a stopped-short run can be exported."""
    config = values(folder, "towers", workers=0, epochs=None, max_steps=12)
    config["encoder"] = {"kind": "dual_tower", "image_size": 32, "projection": 64, "modality_dropout": 0.1}
    config["pairs"]["views"] = ["image_copy", "same_sku"]
    config["objective"] = {"temperature": 0.1, "learn_temperature": True, "log_q": True, "mask_margin": None}
    job = kinds.make_job(config, "test")
    run, report = kinds.perform(job, "train")
    metrics = report["metrics"]
    assert metrics["representation/image_to_copy/recall@1"] > 3 * metrics["representation/chance@1"]
    assert metrics["train/temperature"] != pytest.approx(0.1, abs=1e-5)
    assert {"train/loss_image_copy", "train/loss_same_sku"} <= metrics.keys()
    before = load_artifact(run.folder / "export" / "encoder", "encoder").content_hash
    resumed = kinds.make_job({**config, "resume": True}, "test")
    kinds.perform(resumed, "export")
    assert load_artifact(run.folder / "export" / "encoder", "encoder").content_hash == before
