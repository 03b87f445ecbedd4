"""The deployments: one for each half of the ranker, one in front of both.

Each is the ingress of its own Serve application, so that a call to a half goes proxy -> replica in one hop; a shared
front would put a second hop and a second (de)serialisation before every ranking. Only `ads:rank`, which needs both, has two.
The classes are plain: `app.py` turns them into Serve deployments with the options of the config.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from adray.errors import DataError
from adray.serving.ads import HeavyUnavailableError, rank_ads
from adray.serving.edge import ADS_RANK, CREATIVES_RANK, USER_SKU_SCORE, operation_app
from adray.serving.front import front_app
from adray.serving.schemas import (
    AdsAnswer,
    AdsRequest,
    CreativesAnswer,
    CreativesRequest,
    HalfHealth,
    Health,
    RankedCreative,
    RankedSku,
    ScoredSku,
    UserSkuAnswer,
    UserSkuRequest,
)
from adray.serving.telemetry import Telemetry

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve.handle import DeploymentHandle

T = TypeVar("T")

MODEL_THREADS = 2
"""Threads that run the model in one replica: one long request does not hold up all short ones, and more would only
take turns at the interpreter lock."""

_DESCRIBE_DEADLINE_S = 2.0

# Serve's logger adds request id, deployment and replica to every record written while a request runs.
logger = logging.getLogger("ray.serve")


class ModelReplica:
    """What both halves share: the model off the event loop, and a health check that runs it.

    Args:
        health_deadline_s: How long the health check's tiny forward may take.
    """

    artifact: str
    """Content hash of what is served."""

    def __init__(self, health_deadline_s: float) -> None:
        import torch

        # Replicas are the unit of parallelism; torch's own threads would fight over the same cores.
        torch.set_num_threads(1)
        self._health_deadline_s = health_deadline_s
        self._threads = ThreadPoolExecutor(MODEL_THREADS, thread_name_prefix="model")
        # Apart from the others, or a full queue of requests would look like a broken model and get the replica killed.
        self._health_thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self.telemetry = Telemetry()

    def probe(self) -> None:
        """Run a tiny forward."""
        raise NotImplementedError

    async def run_model(self, function: Callable[[], T]) -> T:
        """Run a blocking model call in a thread, timed; the event loop stays free to accept, refuse and report health."""
        with self.telemetry.timed():
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def check_health(self) -> None:
        """Serve calls this; raising three times in a row gets the replica replaced.

        Raises:
            TimeoutError: If the tiny forward does not end in time.
        """
        forward = asyncio.get_running_loop().run_in_executor(self._health_thread, self.probe)
        await asyncio.wait_for(forward, self._health_deadline_s)

    async def describe(self) -> str:
        """The content hash of the artifact that is served."""
        return self.artifact


class CreativeRanker(ModelReplica):
    """The light half: `POST /v1/creatives:rank`.

    Args:
        folder: The light artifact.
        key_hash: SHA-256 (hex) of the API key; None asks for none.
        health_deadline_s: See `ModelReplica`.
    """

    def __init__(self, folder: str, key_hash: str | None, health_deadline_s: float) -> None:
        from adray.ranking.scoring import LightRanker

        super().__init__(health_deadline_s)
        self._key_hash = key_hash
        self._ranker = LightRanker.load(folder)
        self.artifact = self._ranker.artifact.content_hash
        self.probe()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return operation_app(CREATIVES_RANK, self.rank, self._key_hash)

    def probe(self) -> None:
        """Rank one SKU's creatives for an unknown user."""
        from adray.ranking.scoring import SkuRequest

        self._ranker.rank({}, [SkuRequest(sku) for sku in self._ranker.sku_ids(1)])

    async def example_sku(self) -> str:
        """A SKU that the artifact knows, to show how to ask."""
        return next(iter(self._ranker.sku_ids(1)), "SKU")

    async def rank(self, request: CreativesRequest) -> CreativesAnswer:
        """Order the creatives of the SKUs, for HTTP and for the front alike."""
        from adray.ranking.scoring import SkuRequest

        skus = [SkuRequest(sku.sku_id, sku.creative_ids) for sku in request.skus]
        ranked = await self.run_model(lambda: self._ranker.rank(request.user, skus))
        answer = [
            RankedSku(
                sku_id=sku.sku_id,
                known=sku.known,
                creatives=[RankedCreative(creative_id=c, score=s, propensity=p) for c, s, p in sku.creatives],
                unknown=list(sku.unknown),
            )
            for sku in ranked
        ]
        unknown_skus = [sku.sku_id for sku in answer if not sku.known]
        self.telemetry.count_unknown(len(unknown_skus), sum(len(sku.unknown) for sku in answer))
        return CreativesAnswer(artifact=self.artifact, skus=answer, unknown_skus=unknown_skus)


class UserSkuRanker(ModelReplica):
    """The heavy half: `POST /v1/user-sku:score`.

    Args:
        folder: The heavy artifact.
        key_hash: SHA-256 (hex) of the API key; None asks for none.
        health_deadline_s: See `ModelReplica`.
    """

    def __init__(self, folder: str, key_hash: str | None, health_deadline_s: float) -> None:
        from adray.ranking.scoring import HeavyRanker

        super().__init__(health_deadline_s)
        self._key_hash = key_hash
        self._ranker = HeavyRanker.load(folder)
        self.artifact = self._ranker.artifact.content_hash
        self.probe()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return operation_app(USER_SKU_SCORE, self.score, self._key_hash)

    def probe(self) -> None:
        """Score one SKU for an unknown user."""
        self._ranker.score({}, self._ranker.sku_ids(1))

    async def score(self, request: UserSkuRequest) -> UserSkuAnswer:
        """Score the SKUs, for HTTP and for the front alike."""
        scores = await self.run_model(lambda: self._ranker.score(request.user, request.sku_ids, request.cross))
        skus = [ScoredSku(sku_id=sku_id, score=score) for sku_id, score in zip(request.sku_ids, scores, strict=True)]
        unknown = [sku.sku_id for sku in skus if sku.score is None]
        self.telemetry.count_unknown(len(unknown))
        return UserSkuAnswer(artifact=self.artifact, skus=skus, unknown_skus=unknown)


class AdsFront:
    """The front of both halves: `POST /v1/ads:rank`, `/healthz` and the OpenAPI page. Holds no model.

    Args:
        light: Deployment and application name of the light half.
        heavy: Those of the heavy half; None when none is served.
        key_hash: SHA-256 (hex) of the API key; None asks for none.
        heavy_deadline_s: How long `ads:rank` waits for the heavy half before it answers without.
    """

    def __init__(self, light: tuple[str, str], heavy: tuple[str, str] | None, key_hash: str | None, heavy_deadline_s: float) -> None:
        from ray import serve

        self._light: DeploymentHandle = serve.get_deployment_handle(*light)
        self._heavy: DeploymentHandle | None = serve.get_deployment_handle(*heavy) if heavy else None
        self._key_hash = key_hash
        self._heavy_deadline_s = heavy_deadline_s
        self._telemetry = Telemetry()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return front_app({ADS_RANK: self.rank}, self.health, self._key_hash, absent=() if self._heavy else (USER_SKU_SCORE,))

    async def rank(self, request: AdsRequest) -> AdsAnswer:
        """Call both halves concurrently and join their answers."""
        answer = await rank_ads(request, self._call_light, self._call_heavy if self._heavy else None, self._heavy_deadline_s)
        if answer.degraded:
            self._telemetry.count_degraded()
            logger.warning("ads ranked without the heavy half: %s", answer.degraded)
        return answer

    async def health(self) -> Health:
        """Ask both halves what they serve."""
        light, heavy = await asyncio.gather(_describe(self._light), _describe(self._heavy) if self._heavy else _nothing())
        if light.problem:
            return Health(status="down", light=light, heavy=heavy)
        return Health(status="ok" if heavy and not heavy.problem else "degraded", light=light, heavy=heavy)

    async def _call_light(self, request: CreativesRequest) -> CreativesAnswer:
        with _request_errors():
            return await self._light.rank.remote(request)

    async def _call_heavy(self, request: UserSkuRequest) -> UserSkuAnswer:
        assert self._heavy is not None
        try:
            with _request_errors():
                return await self._heavy.score.remote(request)
        except _unavailable() as error:
            raise HeavyUnavailableError(f"the heavy half cannot answer: {type(error).__name__}") from error


@contextmanager
def _request_errors() -> Iterator[None]:
    """Raise what a half says of the request itself as it was raised there, without Ray's wrapping."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, DataError):
            raise error.cause from None
        raise


def _unavailable() -> tuple[type[Exception], ...]:
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

    return (BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError, RayActorError)


async def _describe(handle: DeploymentHandle) -> HalfHealth:
    try:
        artifact = await asyncio.wait_for(_await(handle.describe.remote()), _DESCRIBE_DEADLINE_S)
    except asyncio.TimeoutError:
        return HalfHealth(artifact=None, problem=f"no answer within {_DESCRIBE_DEADLINE_S:g} s")
    except _unavailable() as error:
        return HalfHealth(artifact=None, problem=type(error).__name__)
    return HalfHealth(artifact=artifact, problem=None)


async def _await(response: Any) -> Any:
    return await response


async def _nothing() -> None:
    return None
