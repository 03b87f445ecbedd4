"""The artifact: loads alone, notices damage, refuses what it must not hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adray.artifact import FORMAT_VERSION, load_artifact, writing_artifact
from adray.errors import ArtifactError


def write(folder, kind="ranker.light", config=None, value=1.0, **more):
    with writing_artifact(folder, kind, config or {"width": 4}, **more) as partial:
        save_file({"w": torch.full((2, 3), value)}, partial / "model.safetensors")
        np.save(partial / "vectors.npy", np.arange(6, dtype=np.float16).reshape(3, 2))
    return folder


def test_what_was_written_is_loaded(tmp_path):
    folder = write(tmp_path / "a", metrics={"auc": 0.7}, lineage={"tables": ["t"]})
    artifact = load_artifact(folder, "ranker.light")
    assert artifact.config == {"width": 4} and artifact.metrics == {"auc": 0.7} and artifact.lineage == {"tables": ["t"]}
    assert torch.equal(artifact.tensors()["w"], torch.ones(2, 3))
    vectors = artifact.array("vectors")
    assert isinstance(vectors, np.memmap) and not vectors.flags.writeable
    assert vectors[2].tolist() == [4.0, 5.0]


def test_equal_content_has_an_equal_hash_wherever_it_lies(tmp_path):
    first = load_artifact(write(tmp_path / "a", metrics={"auc": 0.7}))
    assert load_artifact(write(tmp_path / "b", metrics={"auc": 0.9})).content_hash == first.content_hash
    assert load_artifact(write(tmp_path / "c", value=2.0)).content_hash != first.content_hash
    assert load_artifact(write(tmp_path / "d", config={"width": 5})).content_hash != first.content_hash
    assert load_artifact(write(tmp_path / "e", kind="ranker.heavy")).content_hash != first.content_hash


@pytest.mark.parametrize("file", ["model.safetensors", "vectors.npy"])
def test_one_changed_bit_is_noticed(tmp_path, file):
    path = write(tmp_path / "a") / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"file {file} is missing or damaged; copy or export it again"):
        load_artifact(tmp_path / "a")


def test_a_missing_file_is_noticed(tmp_path):
    (write(tmp_path / "a") / "vectors.npy").unlink()
    with pytest.raises(ArtifactError, match=r"vectors.npy is missing"):
        load_artifact(tmp_path / "a")


def test_another_kind_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="is a 'ranker.light', not a 'ranker.heavy'"):
        load_artifact(write(tmp_path / "a"), "ranker.heavy")


def test_a_newer_format_is_refused(tmp_path):
    manifest = write(tmp_path / "a") / "artifact.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(ArtifactError, match=f"format version {FORMAT_VERSION + 1}, this adray reads {FORMAT_VERSION}"):
        load_artifact(tmp_path / "a")


def test_no_artifact_and_a_broken_manifest(tmp_path):
    with pytest.raises(ArtifactError, match="no artifact at"):
        load_artifact(tmp_path)
    (tmp_path / "artifact.json").write_text("{")
    with pytest.raises(ArtifactError, match="unreadable artifact.json"):
        load_artifact(tmp_path)


def test_a_file_that_is_asked_for_but_not_there(tmp_path):
    artifact = load_artifact(write(tmp_path / "a"))
    with pytest.raises(ArtifactError, match=r"has no file other.safetensors"):
        artifact.tensors("other")
    with pytest.raises(ArtifactError, match=r"has no file other.npy"):
        artifact.array("other")


def test_pickles_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ArtifactError, match="may not hold 'model.pkl'"), writing_artifact(tmp_path / "a", "k", {}) as partial:
        (partial / "model.pkl").write_bytes(b"")
    assert not (tmp_path / "a").exists()
    with writing_artifact(tmp_path / "b", "k", {}) as partial:
        np.save(partial / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        load_artifact(tmp_path / "b").array("objects")


def test_a_failed_export_leaves_the_last_good_one(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(RuntimeError), writing_artifact(tmp_path / "a", "k", {}):
        raise RuntimeError
    assert load_artifact(tmp_path / "a").kind == "ranker.light"
