"""The OpenAPI page in a real browser: complete without the internet, and its calls reach the live service."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from adray.config import validate
from adray.serving.app import ServeHandle, start
from adray.serving.config import ServeRunConfig
from adray.serving.edge import CREATIVES_RANK, OPERATIONS
from tests.integration.serving.artifacts import Ranker, make_ranker
from tests.integration.serving.live import APP

WAIT_MS = 30_000


@pytest.fixture(scope="module")
def ranker(tmp_path_factory) -> Ranker:
    return make_ranker(tmp_path_factory.mktemp("ranker"))


@pytest.fixture(scope="module")
def app(ray_cluster, ranker) -> Iterator[ServeHandle]:
    # Without the heavy half: the page shows all operations all the same.
    values = {**APP, "light": str(ranker.light), "deployments": {"creatives": {"num_cpus": 0.2}}}
    with start(validate(ServeRunConfig, values, "tests")) as handle:
        yield handle


def test_the_page_shows_the_operations_and_runs_one(browser, app, ranker, tmp_path):
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    foreign: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: None if request.url.startswith((app.url, "data:", "blob:")) else foreign.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(app.url + "/docs")
    page.wait_for_selector(".opblock", timeout=WAIT_MS)
    shown = page.locator(".opblock-summary-path").all_inner_texts()
    assert {path.replace("\u200b", "") for path in shown} == {*(operation.path for operation in OPERATIONS), "/healthz"}
    for operation in OPERATIONS:
        assert page.get_by_text(operation.summary).is_visible()

    block = page.locator(".opblock", has_text=CREATIVES_RANK.path)
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    sku = next(iter(ranker.creatives))
    block.locator("textarea").fill(json.dumps({"user": {"user_age": "18-24"}, "skus": [{"sku_id": sku}, {"sku_id": "no-such-sku"}]}))
    block.get_by_role("button", name="Execute").click()
    live = block.locator(".live-responses-table")
    live.wait_for(timeout=WAIT_MS)
    assert live.locator(".response-col_status").last.inner_text().startswith("200")
    answer = json.loads(live.locator(".highlight-code code").first.inner_text())
    assert {c["creative_id"] for c in answer["skus"][0]["creatives"]} == set(ranker.creatives[sku])
    assert answer["unknown_skus"] == ["no-such-sku"]

    picture = tmp_path / "docs.png"
    page.screenshot(path=str(picture), full_page=True)
    print(f"screenshot: {picture}")
    assert errors == []
    assert foreign == []
    page.close()
