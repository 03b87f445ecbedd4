"""A replica dies: the others go on, and another takes its place."""

import os
import signal

import httpx

from adray.serving.edge import CREATIVES_RANK
from tests.integration.serving.live import wait_for


def test_a_killed_replica_is_replaced_and_requests_go_on(app, ranker):
    def pids() -> set[int]:
        return {r.pid for r in app.deployments()["creatives"].replicas if r.state == "RUNNING" and r.pid}

    before = wait_for(lambda: len(pids()) == 2 and pids(), "two replicas")
    victim = sorted(before)[0]
    body = {"skus": [{"sku_id": s} for s in ranker.creatives]}
    statuses: list[int] = []
    with httpx.Client(base_url=app.url, timeout=10) as client:

        def ask() -> int:
            statuses.append(client.post(CREATIVES_RANK.path, json=body).status_code)
            return statuses[-1]

        assert ask() == 200
        os.kill(victim, signal.SIGKILL)

        def replaced() -> bool:
            ask()
            return len(pids() - {victim}) == 2

        wait_for(replaced, "a new replica in the place of the killed one")
        # Only what the dead replica was working on, or was just handed, may be lost.
        assert sum(status != 200 for status in statuses) <= 2
        assert [ask() for _ in range(20)] == [200] * 20
