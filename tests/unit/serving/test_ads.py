"""Peri-CR's join, and that both halves are in flight at the same time."""

import asyncio

import pytest

from adray.serving.ads import HeavyUnavailableError, join, rank_ads
from adray.serving.schemas import AdsRequest, CreativesAnswer, RankedCreative, RankedSku, ScoredSku, UserSkuAnswer

WAIT_S = 5.0


def creative(name: str, score: float) -> RankedCreative:
    return RankedCreative(creative_id=name, score=score, propensity=0.5)


def light_answer(**skus) -> CreativesAnswer:
    ranked = [
        RankedSku(sku_id=sku, known=bool(creatives), creatives=[creative(c, s) for c, s in creatives], unknown=unknown)
        for sku, (creatives, unknown) in skus.items()
    ]
    return CreativesAnswer(artifact="light", skus=ranked, unknown_skus=[s.sku_id for s in ranked if not s.known])


def heavy_answer(**scores) -> UserSkuAnswer:
    return UserSkuAnswer(artifact="heavy", skus=[ScoredSku(sku_id=k, score=v) for k, v in scores.items()], unknown_skus=[])


def ask(*skus: str, **more) -> AdsRequest:
    return AdsRequest(skus=[{"sku_id": s} for s in skus], **more)


LIGHT = light_answer(
    a=([("a1", 0.2), ("a2", 0.1)], []), b=([], ["b9"]), c=([("c1", 0.9)], ["c8"]), d=([("d1", 0.1)], []), e=([("e1", 0.3)], [])
)


def test_the_heavy_score_orders_and_the_light_score_picks():
    # c has the best creative of all, but its ad comes third: no cross term.
    answer = join(ask(*"abcde"), LIGHT, heavy_answer(a=0.05, b=0.9, c=0.03, d=None, e=0.05))
    assert [(ad.sku_id, ad.score, ad.creative.creative_id) for ad in answer.ads] == [
        ("a", 0.05, "a1"),
        ("e", 0.05, "e1"),
        ("c", 0.03, "c1"),
        ("d", None, "d1"),
    ]
    assert answer.unknown_skus == ["b"]
    assert answer.unknown_creatives == {"b": ["b9"], "c": ["c8"]}
    assert (answer.degraded, answer.light_artifact, answer.heavy_artifact) == (None, "light", "heavy")


def test_top_counts_ads_that_can_be_shown():
    answer = join(ask(*"abcde", top=2), LIGHT, heavy_answer(a=0.05, b=0.9, c=0.03, d=None, e=0.06))
    assert [ad.sku_id for ad in answer.ads] == ["e", "a"]


def test_degraded_keeps_the_order_asked_for_and_says_why():
    answer = join(ask(*"abcde"), LIGHT, "no heavy artifact is served")
    assert [(ad.sku_id, ad.score) for ad in answer.ads] == [("a", None), ("c", None), ("d", None), ("e", None)]
    assert (answer.degraded, answer.heavy_artifact) == ("no heavy artifact is served", None)


def test_both_halves_are_in_flight_together():
    async def scenario() -> tuple:
        light_started, heavy_started = asyncio.Event(), asyncio.Event()

        # Each half ends only once the other has started: called one after the other, they would wait for ever.
        async def light(request):
            light_started.set()
            await asyncio.wait_for(heavy_started.wait(), WAIT_S)
            seen.append([s.sku_id for s in request.skus])
            return LIGHT

        async def heavy(request):
            heavy_started.set()
            await asyncio.wait_for(light_started.wait(), WAIT_S)
            seen.append((request.sku_ids, request.cross))
            return heavy_answer(a=0.1, b=0.1, c=0.1, d=0.1, e=0.1)

        seen: list = []
        cross = {"c": {"cross_clicks": 1.0}}
        answer = await rank_ads(ask(*"abcde", cross=cross), light, heavy, WAIT_S)
        return answer, seen

    answer, seen = asyncio.run(scenario())
    assert answer.degraded is None
    assert list("abcde") in seen
    assert (list("abcde"), {"c": {"cross_clicks": 1.0}}) in seen


@pytest.mark.parametrize("failure", ["silent", "refuses", "absent"])
def test_the_answer_does_without_a_heavy_half_that_cannot(failure):
    async def light(request):
        return LIGHT

    async def heavy(request):
        if failure == "refuses":
            raise HeavyUnavailableError("the heavy half cannot answer: BackPressureError")
        await asyncio.Event().wait()

    answer = asyncio.run(rank_ads(ask(*"abcde"), light, None if failure == "absent" else heavy, 0.05))
    assert [ad.sku_id for ad in answer.ads] == ["a", "c", "d", "e"]
    assert (
        answer.degraded
        == {
            "silent": "the heavy half did not answer within 0.05 s",
            "refuses": "the heavy half cannot answer: BackPressureError",
            "absent": "no heavy artifact is served",
        }[failure]
    )


def test_an_error_of_the_heavy_half_that_is_a_bug_is_not_hidden():
    async def light(request):
        return LIGHT

    async def heavy(request):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        asyncio.run(rank_ads(ask("a"), light, heavy, WAIT_S))


def test_without_the_light_half_there_is_no_answer():
    async def light(request):
        raise ConnectionError("gone")

    async def heavy(request):
        return heavy_answer(a=0.1)

    with pytest.raises(ConnectionError):
        asyncio.run(rank_ads(ask("a"), light, heavy, WAIT_S))
