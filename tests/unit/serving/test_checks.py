"""The pre-flight of `serve`: each refusal names what it found and the cure, and nothing is started."""

import socket

import numpy as np
import pytest

from adray.artifact import writing_artifact
from adray.checks import raise_first
from adray.config import validate
from adray.errors import ArtifactError, ConfigError, ResourceError
from adray.serving import checks
from adray.serving.app import free_port
from adray.serving.config import ServeRunConfig


@pytest.fixture
def artifacts(tmp_path):
    for name, kind in (("light", "ranker.light"), ("heavy", "ranker.heavy")):
        with writing_artifact(tmp_path / name, kind, {"a": 1}) as folder:
            np.save(folder / "store.npy", np.arange(10))
    return tmp_path


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """As on the command line, where checks come before Ray; and no key or HAProxy from the shell that runs the tests."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    for name in ("RAY_ADDRESS", "RAY_SERVE_ENABLE_HA_PROXY", "NO_KEY"):
        monkeypatch.delenv(name, raising=False)


def outcomes(folder, **values):
    values = {"name": "s", "light": str(folder / "light"), "heavy": str(folder / "heavy"), "http": {"port": 0}, **values}
    config = validate(ServeRunConfig, values, "serve.yaml")
    return {check.name: check for check in checks.serving_checks(config)}


def test_a_sound_config_passes_with_figures(artifacts):
    found = outcomes(artifacts)
    raise_first(found.values())
    assert found["replicas"].detail.startswith("creatives 1 x 0.5 + user_sku 1 x 1 + ads 1 x 0.1 = 1.6 CPUs, at most 6.2; a local Ray has")
    assert found["limits"].detail.startswith("creatives 16 running a replica + 64 waiting")
    assert "every file's hash agrees" in found["light artifact"].detail


def test_a_taken_port_is_refused(artifacts):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check = outcomes(artifacts, http={"port": port})["port"]
    assert isinstance(check.error, ResourceError)
    assert str(port) in str(check.error)
    assert "0 for any free one" in str(check.error)


def test_a_port_that_another_proxy_would_share_is_refused(artifacts):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert isinstance(outcomes(artifacts, http={"port": other.getsockname()[1]})["port"].error, ResourceError)


def test_a_free_port_passes(artifacts):
    assert outcomes(artifacts, http={"port": free_port("127.0.0.1")})["port"].error is None


def test_an_address_of_another_machine_is_refused(artifacts, monkeypatch):
    monkeypatch.setenv("NO_KEY", "k" * 16)
    assert isinstance(outcomes(artifacts, http={"host": "192.0.2.1", "port": 8000, "api_key_env": "NO_KEY"})["port"].error, ResourceError)


def test_an_open_host_without_a_key_is_refused(artifacts):
    assert isinstance(outcomes(artifacts, http={"host": "0.0.0.0", "port": 0})["exposure"].error, ConfigError)


def test_replicas_that_fit_nowhere_are_refused_with_the_sum(artifacts):
    check = outcomes(artifacts, deployments={"creatives": {"num_cpus": 64, "min_replicas": 4}})["replicas"]
    assert isinstance(check.error, ResourceError)
    assert "the replicas need 257.1 CPUs (creatives 4 x 64 + user_sku 1 x 1 + ads 1 x 0.1)" in str(check.error)


@pytest.mark.parametrize("damage", ["missing", "other kind", "bytes"])
def test_artifacts_are_verified_before_anything_starts(artifacts, damage):
    light = artifacts / "light"
    if damage == "missing":
        light = artifacts / "nothing"
    elif damage == "other kind":
        light = artifacts / "heavy"
    else:
        with (light / "store.npy").open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xff")
    check = outcomes(artifacts, light=str(light))["light artifact"]
    assert isinstance(check.error, ArtifactError)
    assert str(light) in str(check.error)


def test_the_kinds_are_the_rankers():
    from adray.ranking import export

    assert (checks.LIGHT_KIND, checks.HEAVY_KIND) == (export.LIGHT_KIND, export.HEAVY_KIND)


def test_serving_without_a_heavy_half_is_allowed_and_said(artifacts):
    found = outcomes(artifacts, heavy=None)
    raise_first(found.values())
    assert "keep the request's order" in found["heavy artifact"].detail
    assert "user_sku" not in found["replicas"].detail
