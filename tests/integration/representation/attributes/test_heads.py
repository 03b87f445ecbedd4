"""Heads on vectors: trained by the one trainer, calibrated, unknown where they are not sure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from adray import kinds
from adray.errors import ArtifactError, DataError
from adray.representation.attributes.config import HeadsConfig
from adray.representation.attributes.extractor import Item
from adray.representation.attributes.heads import HeadsExtractor
from adray.representation.attributes.heads_config import HeadsDataConfig
from adray.representation.attributes.heads_data import prepare, read_labels
from adray.representation.attributes.heads_model import NEVER, AttributeHeads, Calibration, calibrate
from adray.representation.attributes.table import Provenance, attributes_table
from adray.representation.attributes.values import Attributes, ReadValue

STYLES = ("cute", "luxury", "retro")
DIM = 16


def write_tables(folder, rows=600, encoder="e1"):
    """Vectors around one direction per style; a third of the scenes is pure noise; some rows without a label."""
    rng = np.random.default_rng(0)
    style = rng.integers(3, size=rows)
    centres = np.eye(DIM)[:3] * 3
    vectors = centres[style] + rng.normal(0, 1, (rows, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"c{i}" for i in range(rows)]
    embeddings = {
        "creative_id": ids,
        "sku_id": [f"s{i // 2}" for i in range(rows)],
        "encoder": [encoder] * rows,
        "vector": pa.array(list(vectors.astype(np.float16)), pa.list_(pa.float16())),
    }
    pq.write_table(pa.table(embeddings), folder / "embeddings.parquet", row_group_size=100)
    labels = {
        "creative_id": ids[: rows - 50],
        "style": [STYLES[s] if i % 10 else None for i, s in enumerate(style[: rows - 50])],
        "scene": [("home", "office")[b] for b in rng.integers(2, size=rows - 50)],
    }
    pq.write_table(pa.table(labels), folder / "labels.parquet")
    return ids, style


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    ids, style = write_tables(folder)
    values = {
        "kind": "attribute_heads",
        "name": "h",
        "runs_dir": str(folder / "runs"),
        "data": {"embeddings": str(folder / "embeddings.parquet"), "labels": str(folder / "labels.parquet")},
        "heads": ["style", "scene", "gender"],
        "training": {"epochs": 15, "batch_size": 32, "lr": 0.02, "threads": 1},
    }
    run, report = kinds.perform(kinds.make_job(values, "test"), "train")
    return folder, run, report, ids, style


def test_a_head_tells_what_the_vectors_hold_and_nothing_else(trained):
    _, run, report, _, _ = trained
    metrics = report["metrics"]
    assert metrics["representation/heads/style/accuracy"] > 0.9
    assert metrics["representation/heads/style/told"] > 0.7 and metrics["representation/heads/style/precision"] > 0.85
    # Coin tosses: no threshold makes them 90 % right but by chance of a few rows.
    assert metrics["representation/heads/scene/told"] < 0.1
    assert "representation/heads/gender/accuracy" not in metrics
    assert (run.folder / "heads" / "model.safetensors").is_file()


def test_creatives_of_a_sku_are_in_one_split(trained):
    _, run, report, _, _ = trained
    counts = [report["metrics"][f"data/rows/{name}"] for name in ("train", "calibration", "test")]
    assert sum(counts) == 550 and all(count % 2 == 0 for count in counts)
    assert 0.6 < counts[0] / 550 < 0.8


def test_the_extractor_tells_unknown_without_a_vector(trained):
    folder, run, _, ids, style = trained
    config = HeadsConfig(artifact=str(run.folder / "heads"), embeddings=str(folder / "embeddings.parquet"))
    extractor = HeadsExtractor(config, {"style", "audience"})
    items = [Item(key, "", "", None) for key in (*ids[-50:], "stranger")]
    *found, stranger = extractor.extract(items, [Attributes()] * len(items))
    assert stranger == {}
    told = [(values["style"].value, STYLES[s]) for values, s in zip(found, style[-50:], strict=True) if values["style"].value != "unknown"]
    assert len(told) > 30 and np.mean([a == b for a, b in told]) > 0.85
    assert all(values["style"].source == "model" for values in found if values["style"].value != "unknown")
    assert all(values["style"].confidence == 0.0 for values in found if values["style"].value == "unknown")
    assert {values["audience"].gender.value for values in found} == {"unknown"}
    assert "promotion" not in found[0]


def test_vectors_of_another_encoder_are_refused(trained, tmp_path):
    _, run, _, _, _ = trained
    write_tables(tmp_path, encoder="e2")
    with pytest.raises(ArtifactError, match="holds vectors of encoder e2, the heads were trained on e1"):
        HeadsExtractor(HeadsConfig(artifact=str(run.folder / "heads"), embeddings=str(tmp_path / "embeddings.parquet")), {"style"})


def test_vectors_of_another_width_are_refused(trained, tmp_path):
    _, run, _, _, _ = trained
    table = {"creative_id": ["c0"], "encoder": ["e1"], "vector": [[1.0] + [0.0] * (DIM // 2 - 1)]}
    pq.write_table(pa.table(table), tmp_path / "embeddings.parquet")
    with pytest.raises(ArtifactError, match=f"holds vectors of {DIM // 2} values, the heads were trained on {DIM}"):
        HeadsExtractor(HeadsConfig(artifact=str(run.folder / "heads"), embeddings=str(tmp_path / "embeddings.parquet")), {"style"})


def test_vectors_of_two_versions_are_not_trained_on(tmp_path):
    write_tables(tmp_path, rows=100)
    table = pq.read_table(tmp_path / "embeddings.parquet")
    other = table.slice(0, 1).set_column(2, "encoder", pa.array(["e2"]))
    pq.write_table(pa.concat_tables([table.slice(1), other]), tmp_path / "embeddings.parquet")
    data = HeadsDataConfig(embeddings=str(tmp_path / "embeddings.parquet"), labels=str(tmp_path / "labels.parquet"))
    with pytest.raises(DataError, match="mixes vectors of encoder 'e1' and encoder 'e2'"):
        prepare(data, ["style"], tmp_path / "rows")


def test_the_artifact_loads_alone(trained):
    _, run, _, _, _ = trained
    heads = AttributeHeads.load(run.folder / "heads")
    assert heads.classes == {"style": STYLES, "scene": ("home", "office")} and heads.encoder == "e1"
    assert heads.calibration["style"].threshold < 1.0


def test_calibration_finds_the_temperature_that_was_used():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = (rng.random(20_000)[:, None] > probabilities.cumsum(1)).sum(1)
    assert calibrate(logits, target, 0.9).temperature == pytest.approx(1.0, abs=0.03)
    found = calibrate(3 * logits, target, 0.9)
    assert found.temperature == pytest.approx(3.0, abs=0.1)
    told = probabilities.max(1) >= found.threshold
    assert (probabilities.argmax(1) == target)[told].mean() == pytest.approx(0.9, abs=0.01)
    assert calibrate(np.zeros((0, 3)), np.zeros(0, int), 0.9).threshold == NEVER
    wrong = calibrate(np.tile([5.0, 0.0], (50, 1)), np.ones(50, int), 0.9)
    assert wrong.threshold == NEVER


def test_labels_from_an_attributes_table(tmp_path):
    found = [
        Attributes(style=ReadValue("retro", "retro", "copy", 0.9)),
        Attributes(style=ReadValue("cute", "cute", "copy", 0.2)),
        Attributes(),
    ]
    items = [Item(key, "", "", None) for key in "abc"]
    pq.write_table(attributes_table(items, ["s"] * 3, found, Provenance("x")), tmp_path / "a.parquet")
    config = HeadsDataConfig(embeddings="none", labels=str(tmp_path / "a.parquet"))
    assert read_labels(config, ["style", "scene"]) == {"a": {"style": "retro"}}
    pq.write_table(pa.table({"creative_id": ["a"], "other": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="has none of the columns style"):
        read_labels(HeadsDataConfig(embeddings="none", labels=str(tmp_path / "b.parquet")), ["style"])


def test_told_probabilities_are_calibrated_ones():
    heads = AttributeHeads({"style": STYLES}, 4, "e")
    with torch.no_grad():
        heads.heads["style"].weight.zero_()
        heads.heads["style"].bias.copy_(torch.tensor([2.0, 0.0, -1.0]))
    heads.calibration = {"style": Calibration(2.0, 0.5)}
    [(value, probability)] = heads.predict(np.ones((1, 4)))["style"]
    expected = np.exp([1.0, 0.0, -0.5])
    assert value == "cute" and probability == pytest.approx(expected[0] / expected.sum())
    heads.calibration = {"style": Calibration(2.0, 0.7)}
    assert heads.predict(np.ones((1, 4)))["style"][0][0] is None
