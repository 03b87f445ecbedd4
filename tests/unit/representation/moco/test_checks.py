"""What a run says about its loss before it starts."""

from __future__ import annotations

import pytest

from adray.config import validate
from adray.representation.moco.checks import losses, moco_checks
from adray.representation.moco.run_config import MocoRunConfig


def config(tmp_path, **sections):
    values = {
        "kind": "moco",
        "name": "m",
        "runs_dir": str(tmp_path),
        "data": {"train": str(tmp_path)},
        "encoder": {"kind": "resnet", "image_size": 24, "depths": [1], "widths": [8]},
        **sections,
    }
    return validate(MocoRunConfig, values, "test")


@pytest.mark.parametrize(
    ("training", "text"),
    [
        ({"batch_size": 256}, "chance 4.436, floor 0.800, at temperature 0.2 with 256 keys per query"),
        (
            {"batch_size": 1024, "micro_batch_size": 256},
            "chance 4.436, floor 0.800, at temperature 0.2 with 256 keys per query (accumulation",
        ),
        ({"batch_size": 4096}, "chance 6.654, floor 2.682"),
    ],
)
def test_the_loss_at_chance_and_at_its_floor_counts_the_keys_that_a_query_meets(tmp_path, training, text):
    run = config(tmp_path, training=training)
    assert losses(run).startswith(text)
    assert any(check.name == "moco losses" and check.detail.startswith(text) for check in moco_checks(run, "export"))


def test_statistics_of_one_row_are_refused(tmp_path):
    run = config(tmp_path, training={"batch_size": 1})
    (check,) = [check for check in moco_checks(run, "export") if check.name == "head statistics"]
    assert check.error is not None and "moco.norm=layer" in str(check.error)
