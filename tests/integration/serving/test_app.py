"""A start that cannot succeed ends soon, says why and leaves nothing behind. Runs before the room's shared application starts."""

import shutil

import pytest
from ray import serve

from adray.config import validate
from adray.errors import ServingError
from adray.serving.app import start
from adray.serving.config import ServeRunConfig
from tests.integration.serving.live import APP


def test_a_replica_that_cannot_load_its_artifact_ends_the_start(ray_cluster, ranker, tmp_path):
    shutil.copytree(ranker.light, tmp_path / "light")
    weights = tmp_path / "light" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    values = {**APP, "light": str(tmp_path / "light"), "heavy": None}
    with pytest.raises(ServingError) as error:
        start(validate(ServeRunConfig, values, "tests"))
    assert "file model.safetensors is missing or damaged" in str(error.value)
    assert "launch.py check" in str(error.value)
    assert serve.status().applications == {}
    assert serve.status().proxies == {}
