"""Overload, silence and load: refused at once, ended in time, answered by more replicas."""

import time

import pytest

from adray.serving.edge import ADS_RANK, CREATIVES_RANK, USER_SKU_SCORE
from tests.integration.serving.live import HeldRequest, wait_for


def test_a_request_that_is_not_answered_in_time_ends_with_408(app, hold):
    start = time.monotonic()
    status, _, body = hold(CREATIVES_RANK.path, {"skus": [{"sku_id": "s"}]}).answer()
    seconds = time.monotonic() - start
    assert status == 408
    assert b"timed out after 4" in body
    assert app.config.http.request_timeout_s - 0.5 <= seconds <= app.config.http.request_timeout_s + 2


def test_a_full_queue_refuses_at_once_and_loses_none_it_has_taken(app, client, hold):
    part = app.config.deployments.user_sku
    # Requests being handed over to a replica count neither as queued nor as running, so on a busy machine Serve takes a few
    # more than there are places. One at a time, with a moment each to be refused, the queue fills all the same.
    places = part.max_ongoing_requests + part.max_queued_requests
    assert client.post(USER_SKU_SCORE.path, json={"sku_ids": ["a"]}).status_code == 200
    held: list[HeldRequest] = []
    while len(held) < 4 * places and sum(request.is_answered() for request in held) < 3:
        held.append(hold(USER_SKU_SCORE.path, {"sku_ids": ["a", "b", "c"]}))
        held[-1].is_answered(within_s=0.15)
    refused = [request for request in held if request.is_answered()]
    taken = [request for request in held if request not in refused]
    assert len(refused) >= 3
    assert len(taken) >= part.max_queued_requests
    for request in refused:
        status, headers, _ = request.answer()
        assert (status, headers["retry-after"]) == (503, "3")
    for request in taken:
        request.send_rest()
    # The time-out is 4 s: who was refused was refused before, who was taken is answered.
    assert [request.answer()[0] for request in taken] == [200] * len(taken)


def test_ads_do_without_a_heavy_half_whose_queue_is_full(app, ranker, hold, client):
    part = app.config.deployments.user_sku
    skus = list(ranker.creatives)
    for _ in range(part.max_ongoing_requests):
        hold(USER_SKU_SCORE.path, {"sku_ids": skus})
    answer = wait_for(lambda: degraded(client, skus), "an answer without the heavy half", timeout_s=10)
    assert [ad["sku_id"] for ad in answer["ads"]] == skus
    assert {ad["score"] for ad in answer["ads"]} == {None}
    assert answer["heavy_artifact"] is None
    assert "the heavy half" in answer["degraded"]


def degraded(client, skus) -> dict | None:
    response = client.post(ADS_RANK.path, json={"skus": [{"sku_id": s} for s in skus]})
    assert response.status_code == 200
    return response.json() if response.json()["degraded"] else None


def test_load_brings_a_second_replica(app, hold):
    assert app.deployments()["ads"].target_num_replicas == 1
    held = [hold(ADS_RANK.path, {"skus": [{"sku_id": "s"}]}) for _ in range(6)]
    # Reports of the load come every second, not every ten as by default: an answer to a burst takes seconds.
    wait_for(lambda: app.deployments()["ads"].target_num_replicas == 2, "the front to be scaled up", timeout_s=9)
    wait_for(lambda: [r.state for r in app.deployments()["ads"].replicas].count("RUNNING") == 2, "the second replica")
    for request in held:
        request.close()


@pytest.mark.parametrize("size", [4 * 2**20 + 1])
def test_a_long_body_is_refused(client, size):
    response = client.post(CREATIVES_RANK.path, content=b" " * size, headers={"content-type": "application/json"})
    assert response.status_code == 413
