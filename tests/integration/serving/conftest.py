"""One running application for the room, on real artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from adray.config import validate
from adray.serving.app import ServeHandle, start
from adray.serving.config import ServeRunConfig
from tests.integration.serving.artifacts import Ranker, make_ranker
from tests.integration.serving.live import APP, WAIT_S, HeldRequest


@pytest.fixture(scope="package")
def ranker(tmp_path_factory) -> Ranker:
    """A small real ranker's artifacts."""
    return make_ranker(tmp_path_factory.mktemp("ranker"))


@pytest.fixture(scope="package")
def app(ray_cluster, ranker) -> Iterator[ServeHandle]:
    """The applications of `APP`; stopped when the room's tests have run, so that other rooms find Serve free."""
    values = {**APP, "light": str(ranker.light), "heavy": str(ranker.heavy)}
    with start(validate(ServeRunConfig, values, "tests")) as handle:
        yield handle


@pytest.fixture
def client(app) -> Iterator[httpx.Client]:
    """A client of the running application."""
    with httpx.Client(base_url=app.url, timeout=WAIT_S) as client:
        yield client


@pytest.fixture
def hold(app) -> Iterator[Callable[[str, dict], HeldRequest]]:
    """Start requests that stay in flight until finished; hung up at the test's end."""
    held: list[HeldRequest] = []

    def make(path: str, body: dict) -> HeldRequest:
        held.append(HeldRequest(app.url, path, body))
        return held[-1]

    yield make
    for request in held:
        request.close()
