"""`generate` with real, tiny models of random weights: through the command's own path, in this process."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from adray import kinds
from adray.data.images import decode_image
from adray.data.labels import LABELS
from adray.feedback.artifact import load_inspector
from adray.generation.components import load_components
from adray.generation.sampler import PictureMaker, SamplingConfig
from tests.helpers.tiny_generation import tables_of, write_generation


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A run in this process: its config's fields, the run and its report."""
    values = write_generation(tmp_path_factory.mktemp("generation"), 16)
    run, report = kinds.perform(kinds.make_job(values, "test"), "generate")
    return values, run, report


def test_the_tables_hold_what_the_models_made_and_said(generated):
    values, run, report = generated
    tables = tables_of(run.folder)
    verdicts, rows = tables["verdicts"], tables["generated"]
    assert len(tables["creatives"]) + len(tables["failures"]) == 15 and tables["creatives"] and tables["failures"]
    assert tables["quarantine"]["sku003"]["reason"] == "cutout: 6 bytes that are no known picture format"
    maker = PictureMaker(load_components(values["generator"]), SamplingConfig(**values["sampling"]))
    inspector = load_inspector(values["inspector"])
    for key, row in list(rows.items())[::4]:
        picture, cutout = (decode_image(row[name]["bytes"]) for name in ("image", "cutout"))
        # Alone rather than in its batch: the sums of a layer may be taken in another order.
        alone = maker(cutout[None], [row["prompt"]], [row["negative_prompt"]], [row["seed"]])[0]
        assert np.abs(alone.astype(int) - picture).max() <= 1
        opaque = cutout[..., 3] == 255
        np.testing.assert_array_equal(picture[opaque], cutout[opaque][:, :3])
        given = [torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 for pixels in (picture, cutout)]
        expected = inspector.probabilities(*given, [row["copy"]])[0]
        found = [dict(verdicts[key]["probabilities"])[label] for label in LABELS]
        assert found == pytest.approx(expected.tolist(), abs=1e-5)
        assert verdicts[key]["accepted"] == (found[0] >= values["threshold"]) and verdicts[key]["inspector"] == inspector.content_hash


def test_the_report_counts_attempts(generated):
    _, run, report = generated
    metrics, tables = report["metrics"], tables_of(run.folder)
    accepted = [row["attempt"] for row in tables["verdicts"].values() if row["accepted"]]
    for k in (1, 2, 3):
        assert metrics[f"generation/available_after_{k}"] == pytest.approx(sum(a < k for a in accepted) / 15)
    assert metrics["generation/mean_attempts"] == pytest.approx(len(tables["verdicts"]) / 15)
    assert metrics["generation/seconds_per_accepted"] > 0 and metrics["generation/pictures_per_s"] > 0
    assert metrics["generation/quarantined"] == 1 and metrics["generation/requests"] == 15
    assert {"generate", "generate/generate", "generate/inspect"} <= report["seconds"].keys()
    assert {"Attempts and their verdicts", "Failures by the label given most often"} <= {table.title for table in run.report_tables}
    assert len(run.plots) == 2 and all(min(Image.open(plot.path).size) > 100 for plot in run.plots)
    assert json.loads((run.folder / "report.json").read_text())["tables"] == report["tables"] and len(report["tables"]) == 5


@pytest.mark.parametrize(
    ("fields", "check", "message"),
    [
        ({"generator": "absent"}, "generator", "no generator at"),
        ({"inspector": "absent"}, "inspector", "no artifact at"),
        ({"placement": {"size": 36}}, "sides of pictures", "field 'placement.size' is 36, the generator makes multiples of 8; set 32"),
        ({"placement": {"size": 32, "multiple": 12}}, "sides of pictures", "field 'placement.multiple' is 12"),
        ({"job": {"gpus": True}}, "gpus", "this process has no GPU"),
        ({"data": {"requests": "absent.parquet"}}, "requests readable", "does not exist"),
    ],
)  # fmt: skip
def test_what_would_stop_a_run_is_told_before_it_starts(generated, fields, check, message):
    job = kinds.make_job({**generated[0], **fields}, "test")
    failed = {c.name: str(c.error) for c in job.room_checks("generate") if c.error is not None}
    assert list(failed) == [check] and message in failed[check]
