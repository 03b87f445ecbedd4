"""Several processes against one: the same views, gradients and statistics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.moco_ranks import step

HELPER = Path(__file__).parents[3] / "helpers" / "moco_ranks.py"


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    folder, world = tmp_path_factory.mktemp("ranks"), request.param
    environment = {**os.environ, "PYTHONPATH": str(HELPER.parents[2]), "OMP_NUM_THREADS": "1"}
    outs = [folder / f"{rank}.safetensors" for rank in range(world)]
    running = [
        subprocess.Popen(
            [sys.executable, HELPER, str(rank), str(world), folder / "store", outs[rank]],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors[-2000:]
    return [load_file(out) for out in outs]


@pytest.fixture(scope="module")
def alone():
    torch.set_num_threads(1)
    return step(0, 1)


def test_views_are_the_same_bit_for_bit(ranks, alone):
    for name in ("view0", "view1"):
        assert torch.equal(torch.cat([one[name] for one in ranks]), alone[name])


def test_averaged_gradients_are_those_of_one_process(ranks, alone):
    names = [name for name in alone if name.startswith("gradient.")]
    assert len(names) > 20
    for one in ranks:
        torch.testing.assert_close(one["loss"], alone["loss"], atol=1e-6, rtol=0)
        for name in names:
            torch.testing.assert_close(one[name], alone[name], atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_every_rank_has_the_statistics_of_all(ranks, alone):
    names = [name for name in alone if "running" in name]
    assert any(name.startswith("buffer.key.") for name in names)
    for one in ranks:
        for name in names:
            torch.testing.assert_close(one[name], alone[name], atol=1e-6, rtol=0)
