from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from adray.artifact import load_artifact
from adray.errors import AdrayError, DataError
from adray.generation.components import KIND, load_components
from adray.generation.placement import PlacementConfig
from adray.generation.rfft.config import RequestDataConfig
from adray.generation.rfft.products import prepare_products
from tests.helpers.rfft_run import png, prepare, run, training
from tests.helpers.tiny_generator import SIDE


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("rfft"))


@pytest.fixture(scope="module")
def whole(values):
    return run({**values, "name": "whole", "training": training()})


def tuned(run):
    return run.folder / "export" / "generator"


def weights(run, part="controlnet"):
    return load_file(tuned(run) / part / "diffusion_pytorch_model.safetensors")


def test_a_run_tunes_the_controlnet_alone_and_says_what_changed(values, whole):
    done, report = whole
    assert report["metrics"]["train/steps"] == 4
    before, after = load_components(values["generator"]), load_components(tuned(done))
    for name in ("unet", "vae", "text_encoder"):
        old, new = getattr(before, name).state_dict(), getattr(after, name).state_dict()
        assert all(torch.equal(old[key], new[key]) for key in old), name
    old = before.controlnet.state_dict()
    moved = [key for key, value in after.controlnet.state_dict().items() if not torch.equal(old[key], value)]
    assert len(moved) > len(old) // 2
    metrics = report["metrics"]
    assert metrics["generation/pictures"] == 6
    assert metrics["generation/reward_gain"] == pytest.approx(
        metrics["generation/available_after"] - metrics["generation/available_before"]
    )
    assert (done.folder / "plots" / "pairs.png").is_file()
    before, after = (pq.read_table(done.folder / "pictures" / name) for name in ("before", "after"))
    for column in ("request_id", "prompt", "seed", "cutout"):
        assert before.column(column).to_pylist() == after.column(column).to_pylist()
    assert before.num_rows == 6 and before.column("image").to_pylist() != after.column("image").to_pylist()
    assert sum(after.column("accepted").to_pylist()) / 6 == pytest.approx(metrics["generation/available_after"])
    artifact = load_artifact(tuned(done), KIND)
    assert artifact.lineage["generator"] == values["generator"]
    assert artifact.lineage["inspector"]["content_hash"] == load_artifact(values["feedback"]["inspector"]).content_hash


def test_a_stopped_run_goes_on_to_the_same_weights(values, whole):
    half = {**values, "name": "half"}
    run({**half, "training": training(max_steps=2)})
    resumed, _ = run({**half, "training": training(), "resume": True})
    for key, value in weights(whole[0]).items():
        assert torch.equal(weights(resumed)[key], value), key


def test_export_and_evaluate_read_the_run(values, whole):
    done, report = whole
    config = {**values, "name": "whole", "training": training()}
    kept = weights(done)
    run(config, "export")
    assert all(torch.equal(weights(done)[key], value) for key, value in kept.items())
    _, again = run(config, "evaluate")
    for name in ("generation/available_before", "generation/available_after"):
        assert again["metrics"][name] == report["metrics"][name]


def test_two_workers_on_ray_reach_the_weights_of_one(values, ray_cluster):
    # Plain descent: Adam divides by the size of a gradient, and so makes a whole step of what is but rounding.
    plain = {"optimizer": "sgd", "lr": 0.005, "betas": [0.0, 0.999]}
    one, _ = run({**values, "name": "one", "training": training(**plain)})
    two, _ = run({**values, "name": "two", "training": training(workers=2, **plain)})
    before = load_components(values["generator"]).controlnet.state_dict()
    moved = max(float((value - before[key]).abs().max()) for key, value in weights(one).items())
    apart = max(float((value - weights(two)[key]).abs().max()) for key, value in weights(one).items())
    assert moved > 0.01 and apart < 1e-3 * moved, (moved, apart)


def test_what_cannot_be_tuned_is_refused_in_one_line(values, tmp_path):
    with pytest.raises(AdrayError, match=r"no artifact at .*nothing"):
        run({**values, "name": "a", "feedback": {**values["feedback"], "inspector": str(tmp_path / "nothing")}, "training": training()})
    with pytest.raises(AdrayError, match="placement.size is 30"):
        run({**values, "name": "b", "placement": {"size": 30, "keep_loc": True}, "training": training()})


def test_rows_that_cannot_be_used_are_quarantined_with_their_reason(values, tmp_path):
    rows = pq.read_table(f"{values['data']['path']}/train.parquet").to_pylist()
    rows[0]["copy"] = ""
    rows[1]["cutout"] = {"bytes": rows[1]["cutout"]["bytes"][:40], "path": None}
    rows[2]["cutout"] = {"bytes": png(np.zeros((SIDE, SIDE, 4), np.uint8)), "path": None}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    pq.write_table(pq.read_table(f"{values['data']['path']}/holdout.parquet"), tmp_path / "holdout.parquet")
    data = RequestDataConfig(path=str(tmp_path), quarantine_limit=0.2)
    placement = PlacementConfig(**values["placement"])
    tables = prepare_products(data, placement, tmp_path / "tables")
    assert tables.rows == {"train": 29, "holdout": 16} and tables.quarantined == 3
    lost = [(row["key"], row["reason"]) for row in pq.read_table(tables.quarantine).to_pylist()]
    assert [key for key, _ in lost] == ["s0", "s0", "s1"]
    assert lost[0][1] == "there is no title" and "no known picture format" in lost[1][1] and "empty" in lost[2][1]
    with pytest.raises(DataError, match=r"3 of 32 rows .* cannot be used, limit 1.00%; first s0: there is no title"):
        prepare_products(data.model_copy(update={"quarantine_limit": 0.01}), placement, tmp_path / "strict")
    assert not (tmp_path / "strict").exists()
