"""Kinds that train refuse to go on with other settings before anything of the run is changed; bad values are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from adray import kinds
from adray.checks import raise_first
from adray.config import RunConfig
from adray.errors import AdrayError, ArtifactError, ConfigError
from adray.run import CONFIG_FILE, open_run

MOCO = {
    "kind": "moco",
    "data": {"train": "/nowhere/train", "test": "/nowhere/test"},
    "encoder": {"kind": "resnet", "image_size": 24, "depths": [1], "widths": [8]},
}
ENCODER = {"kind": "encoder", "encoder": {"kind": "dual_tower", "projection": 8}, "pairs": {"path": "/nowhere/creatives.parquet"}}
HEADS = {"kind": "attribute_heads", "data": {"embeddings": "/nowhere/e", "labels": "/nowhere/l"}}
EMBEDDING = {"kind": "embedding", "data": {"creatives": "/nowhere/creatives.parquet"}}


def config(tmp_path: Path, values: dict, **changes: object) -> RunConfig:
    merged = {**values, "name": "r", "runs_dir": str(tmp_path)}
    for dotted, value in changes.items():
        *sections, leaf = dotted.split("__")
        node = merged
        for section in sections:
            node[section] = dict(node.get(section) or {})
            node = node[section]
        node[leaf] = value
    return kinds.make_job(merged, "r.yaml").config


@pytest.mark.parametrize(
    ("values", "bound", "free"),
    [
        (MOCO, {"moco__temperature": 0.5}, {"evaluation__k": 5, "data__test": "/elsewhere", "training__epochs": 9}),
        (MOCO, {"views__preset": "imagenet"}, {"training__log_every": 3}),
        (MOCO, {"data__train": "/elsewhere"}, {}),
        (ENCODER, {"pairs__views": ["same_sku"]}, {"evaluation__recall_at": [5], "training__epochs": 9}),
        (ENCODER, {"objective__temperature": 0.1}, {}),
        (HEADS, {"data__held_out": 0.5}, {"target_precision": 0.8, "training__epochs": 9}),
        (HEADS, {"heads": ["style"]}, {}),
    ],
)
def test_a_run_with_checkpoints_keeps_what_shapes_its_result(tmp_path, values, bound, free):
    folder = open_run(config(tmp_path, values), owns_folder=True).folder
    saved = (folder / CONFIG_FILE).read_text()
    (folder / "checkpoints" / "step-00000004").mkdir(parents=True)
    field = next(iter(bound)).split("__")[0]
    with pytest.raises(ConfigError, match=f"field '{field}.*checkpoints were made with"):
        open_run(config(tmp_path, values, resume=True, **bound), owns_folder=True)
    assert (folder / CONFIG_FILE).read_text() == saved
    open_run(config(tmp_path, values, resume=True, **free), owns_folder=True)


@pytest.mark.parametrize(
    ("values", "change", "line"),
    [
        (EMBEDDING, {"evaluation__ks": [1, 0]}, r"evaluation.ks.1.*greater than or equal to 1"),
        (EMBEDDING, {"evaluation__ablation": False}, "primary is 'image_to_image'.*set ablation to true, or primary"),
        (ENCODER, {"evaluation__recall_at": [0]}, r"evaluation.recall_at.0.*greater than or equal to 1"),
        (ENCODER, {"objective__matryoshka": [-4]}, r"objective.matryoshka.0.*greater than or equal to 1"),
    ],
)
def test_values_that_cannot_work_are_one_line(tmp_path, values, change, line):
    with pytest.raises(ConfigError, match=line) as caught:
        config(tmp_path, values, **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "verb", "error"),
    [
        (MOCO, "evaluate", ArtifactError),
        (MOCO, "export", ArtifactError),
        (ENCODER, "evaluate", ArtifactError),
        (ENCODER, "export", ArtifactError),
    ],
)
def test_what_reads_a_run_that_never_trained_says_so_and_leaves_no_folder(tmp_path, values, verb, error):
    path = "data__train" if values is MOCO else "pairs__path"
    (tmp_path / "there").mkdir()
    changes = {path: str(tmp_path / "there")} | ({"data__test": str(tmp_path / "there")} if values is MOCO else {})
    job = kinds.make_job(config(tmp_path / "runs", values, **changes).model_dump(mode="json"), "r.yaml")
    with pytest.raises(error, match="train it first") as caught:
        kinds.perform(job, verb)
    assert isinstance(caught.value, AdrayError) and not (tmp_path / "runs").exists()


def test_one_training_field_of_the_heads_leaves_the_others_as_they_were(tmp_path):
    plain, changed = config(tmp_path, HEADS), config(tmp_path, HEADS, training__epochs=3)
    assert changed.training.epochs == 3
    assert changed.training.model_copy(update={"epochs": plain.training.epochs}) == plain.training


def test_vectors_that_were_never_made_cannot_be_judged(tmp_path):
    job = kinds.make_job(config(tmp_path, EMBEDDING).model_dump(mode="json"), "r.yaml")
    with pytest.raises(AdrayError, match="creatives"):
        raise_first(kinds.all_checks(job, "evaluate"))
