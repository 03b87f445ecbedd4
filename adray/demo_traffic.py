"""Asking the live endpoints a world's requests, and holding their answers against the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow.parquet as pq

from adray.errors import ServingError
from adray.ranking.world_value import RequestTruth, load_request_truth, world_value
from adray.run import Run
from adray.serving.edge import ADS_RANK, CREATIVES_RANK

if TYPE_CHECKING:
    from adray.demo import LiveConfig

_SKUS_PER_PAGE = 10
_TIMEOUT_S = 30.0
_WARM_UP = 20


def ask(url: str, world: Path, run: Run, live: LiveConfig, seed: int) -> None:
    """Send requests, and report the true value of the answers and the response times.

    Args:
        url: Base URL of the service.
        world: The world's folder.
        run: Receives `serve/...` metrics and a table.
        live: How many requests.
        seed: Of the bootstrap.

    Raises:
        ServingError: If a request is not answered with 200.
    """
    rows = pq.read_table(world / "requests.parquet").slice(0, live.requests).to_pylist()
    answers, seconds = asyncio.run(_send(url + CREATIVES_RANK.path, [_creatives_body(row) for row in rows], live.in_flight))
    truth = _first(load_request_truth(str(world / "requests.parquet"), str(world / "truth.parquet")), len(rows))
    value = world_value(truth, _scores(rows, answers), resamples=500, seed=seed)
    run.log({f"serve/{name}": number for name, number in value.uplift_share.metrics("oracle_uplift_share").items()})
    run.log({"serve/true_ctr": value.policy.value, "serve/requests": float(len(rows))})
    table = [_times(run, "creatives_rank", seconds)]
    if live.ads:
        pages = [_ads_body(rows, start) for start in range(0, live.ads)]
        answers, seconds = asyncio.run(_send(url + ADS_RANK.path, pages, live.in_flight))
        table.append(_times(run, "ads_rank", seconds))
        degraded = sum(answer["degraded"] is not None for answer in answers)
        run.log({"serve/ads_degraded": float(degraded)})
    note = f"{live.in_flight} requests in flight from the same machine; not a benchmark."
    run.add_table("Live endpoints", ["call", "requests", "p50 ms", "p99 ms"], table, note)


def _creatives_body(row: dict[str, Any]) -> dict[str, Any]:
    return {"user": _user(row), "skus": [_sku(row)]}


def _ads_body(rows: Sequence[dict[str, Any]], start: int) -> dict[str, Any]:
    """A page: one request's user, and the SKUs of it and of those after it."""
    page = {row["sku_id"]: row for row in (rows[(start + i) % len(rows)] for i in range(_SKUS_PER_PAGE))}
    return {"user": _user(rows[start % len(rows)]), "skus": [_sku(row) for row in page.values()], "top": 3}


def _user(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith("user_") and value is not None}


def _sku(row: dict[str, Any]) -> dict[str, Any]:
    return {"sku_id": row["sku_id"], "creative_ids": [c["creative_id"] for c in row["candidates"]]}


async def _send(url: str, bodies: Sequence[dict[str, Any]], in_flight: int) -> tuple[list[Any], list[float]]:
    """POST all bodies, at most `in_flight` at once; answers in order, and the seconds each took (warm-up not among them)."""
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits) as client:

        async def post(body: dict[str, Any]) -> tuple[Any, float]:
            started = time.perf_counter()
            answer = await client.post(url, json=body)
            if answer.status_code != 200:
                raise ServingError(f"{url} answered {answer.status_code}: {answer.text[:200]}", "look at the deployments' logs")
            return answer.json(), time.perf_counter() - started

        await _bounded(post, bodies[:_WARM_UP], in_flight)
        done = await _bounded(post, bodies, in_flight)
    return [answer for answer, _ in done], [seconds for _, seconds in done]


async def _bounded(
    post: Callable[[dict[str, Any]], Awaitable[tuple[Any, float]]], bodies: Sequence[dict[str, Any]], in_flight: int
) -> list[tuple[Any, float]]:
    gate = asyncio.Semaphore(in_flight)

    async def one(body: dict[str, Any]) -> tuple[Any, float]:
        async with gate:
            return await post(body)

    return list(await asyncio.gather(*(one(body) for body in bodies)))


def _scores(rows: Sequence[dict[str, Any]], answers: Sequence[Any]) -> np.ndarray:
    """The answered scores in the candidates' order; a creative that was not ranked is below all that were."""
    scores = []
    for row, answer in zip(rows, answers, strict=True):
        found = {c["creative_id"]: c["score"] for c in answer["skus"][0]["creatives"]}
        scores += [found.get(c["creative_id"], -1.0) for c in row["candidates"]]
    return np.array(scores)


def _first(truth: RequestTruth, count: int) -> RequestTruth:
    """The truth of the first requests."""
    end = int(truth.offsets[count])
    return RequestTruth(
        truth.offsets[: count + 1], truth.click_probability[:end], truth.propensity[:end], truth.skus[:count], truth.creatives[:end]
    )


def _times(run: Run, call: str, seconds: Sequence[float]) -> list[object]:
    """Log a call's response times; returns its row of the table."""
    milliseconds = np.array(seconds) * 1000
    p50, p99 = np.percentile(milliseconds, [50, 99])
    run.log({f"serve/{call}_p50_ms": p50, f"serve/{call}_p99_ms": p99})
    return [call, len(seconds), round(float(p50), 1), round(float(p99), 1)]
