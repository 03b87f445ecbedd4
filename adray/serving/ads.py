"""Peri-CR: ads and creatives are ranked at the same time and joined at the end.

Source: Peri-CR/JAC (AAAI 2024), sections on the decomposition p(y=1|x) p(c|x,y=1) and on the online architecture: the ad
ranker orders the ads, the creative ranker picks the creative inside each, and no cross term is computed while serving.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from adray.serving.schemas import (
    AdsAnswer,
    AdsRequest,
    CreativesAnswer,
    CreativesRequest,
    RankedAd,
    UserSkuAnswer,
    UserSkuRequest,
)

CallLight = Callable[[CreativesRequest], Awaitable[CreativesAnswer]]
CallHeavy = Callable[[UserSkuRequest], Awaitable[UserSkuAnswer]]


class HeavyUnavailableError(Exception):
    """The heavy half cannot answer just now; the text says why."""


async def rank_ads(request: AdsRequest, light: CallLight, heavy: CallHeavy | None, heavy_deadline_s: float) -> AdsAnswer:
    """Call both halves concurrently and join their answers.

    Args:
        request: The candidate ads of a user.
        light: Calls the light half.
        heavy: Calls the heavy half; None when none is served.
        heavy_deadline_s: How long the heavy half may take before the answer does without it.

    Returns:
        Ads by descending heavy score, ads that it did not score after them, ties in the request's order; each with its
        best creative. Without the heavy half all ads keep the request's order and `degraded` says why.
    """
    creatives, scores = await asyncio.gather(
        light(CreativesRequest(user=request.user, skus=request.skus)), _heavy_or_reason(request, heavy, heavy_deadline_s)
    )
    return join(request, creatives, scores)


async def _heavy_or_reason(request: AdsRequest, heavy: CallHeavy | None, deadline_s: float) -> UserSkuAnswer | str:
    if heavy is None:
        return "no heavy artifact is served"
    call = UserSkuRequest(user=request.user, sku_ids=[sku.sku_id for sku in request.skus], cross=request.cross)
    try:
        return await asyncio.wait_for(heavy(call), deadline_s)
    except asyncio.TimeoutError:
        return f"the heavy half did not answer within {deadline_s:g} s"
    except HeavyUnavailableError as error:
        return str(error)


def join(request: AdsRequest, creatives: CreativesAnswer, scores: UserSkuAnswer | str) -> AdsAnswer:
    """Order the ads by the heavy half's scores and give each the light half's first creative.

    Args:
        request: What was asked.
        creatives: The light half's answer, SKU by SKU in the request's order.
        scores: The heavy half's answer in the same order, or why there is none.
    """
    by_position: list[float | None] = [None] * len(request.skus) if isinstance(scores, str) else [sku.score for sku in scores.skus]
    ads = [
        RankedAd(sku_id=sku.sku_id, score=score, creative=sku.creatives[0])
        for sku, score in zip(creatives.skus, by_position, strict=True)
        if sku.creatives
    ]
    # Python's sort is stable: ties, and everything when degraded, stay in the request's order.
    ads.sort(key=lambda ad: -ad.score if ad.score is not None else math.inf)
    return AdsAnswer(
        ads=ads[: request.top],
        degraded=scores if isinstance(scores, str) else None,
        unknown_skus=creatives.unknown_skus,
        unknown_creatives={sku.sku_id: sku.unknown for sku in creatives.skus if sku.unknown},
        light_artifact=creatives.artifact,
        heavy_artifact=None if isinstance(scores, str) else scores.artifact,
    )
