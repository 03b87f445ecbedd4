"""The live endpoints answer what the models say, and name what they do not know."""

import httpx
import psutil
import pytest

from adray.ranking.scoring import HeavyRanker, LightRanker, SkuRequest
from adray.serving.app import start
from adray.serving.edge import ADS_RANK, CREATIVES_RANK, USER_SKU_SCORE
from adray.serving.schemas import AdsAnswer, CreativesAnswer, UserSkuAnswer
from tests.integration.serving.artifacts import CROSS
from tests.integration.serving.live import wait_for


@pytest.fixture(scope="module")
def light(ranker):
    return LightRanker.load(ranker.light)


@pytest.fixture(scope="module")
def heavy(ranker):
    return HeavyRanker.load(ranker.heavy)


def rank(client, body) -> CreativesAnswer:
    response = client.post(CREATIVES_RANK.path, json=body)
    assert response.status_code == 200, response.text
    return CreativesAnswer.model_validate_json(response.content)


def test_http_ranks_exactly_as_the_model_called_directly(client, ranker, light):
    for user in ranker.users:
        skus = [*ranker.creatives]
        answer = rank(client, {"user": user, "skus": [{"sku_id": s} for s in skus]})
        direct = light.rank(user, [SkuRequest(s) for s in skus])
        assert [(s.sku_id, [(c.creative_id, c.score, c.propensity) for c in s.creatives]) for s in answer.skus] == [
            (s.sku_id, [(c, score, propensity) for c, score, propensity in s.creatives]) for s in direct
        ]
        assert answer.artifact == light.artifact.content_hash


def test_creatives_come_best_first_and_as_probabilities(client, ranker):
    for sku in rank(client, {"user": ranker.users[0], "skus": [{"sku_id": s} for s in ranker.creatives]}).skus:
        scores = [c.score for c in sku.creatives]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= s <= 1 for s in scores)
        assert {c.creative_id for c in sku.creatives} == set(ranker.creatives[sku.sku_id])
        assert sum(c.propensity for c in sku.creatives) == pytest.approx(1, abs=1e-4)


def test_the_user_changes_the_scores(client, ranker):
    sku = next(iter(ranker.creatives))
    answers = [rank(client, {"user": user, "skus": [{"sku_id": sku}]}) for user in ranker.users]
    assert len({tuple(c.score for c in a.skus[0].creatives) for a in answers}) > 1


def test_unknown_names_are_named_and_the_rest_is_ranked(client, ranker):
    known, other = list(ranker.creatives)[:2]
    body = {
        "skus": [
            {"sku_id": known, "creative_ids": [ranker.creatives[known][0], "no-such-creative"]},
            {"sku_id": "no-such-sku"},
            {"sku_id": "no-such-sku-2", "creative_ids": ["x"]},
            {"sku_id": other},
        ]
    }
    answer = rank(client, body)
    assert [s.sku_id for s in answer.skus] == [known, "no-such-sku", "no-such-sku-2", other]
    assert [s.known for s in answer.skus] == [True, False, False, True]
    assert answer.unknown_skus == ["no-such-sku", "no-such-sku-2"]
    assert [c.creative_id for c in answer.skus[0].creatives] == ranker.creatives[known][:1]
    assert [s.unknown for s in answer.skus] == [["no-such-creative"], [], ["x"], []]
    assert len(answer.skus[3].creatives) == len(ranker.creatives[other])


def test_the_heavy_half_scores_as_called_directly(client, ranker, heavy):
    skus = [*ranker.creatives, "no-such-sku"]
    cross = {skus[0]: {CROSS: 3.0}}
    response = client.post(USER_SKU_SCORE.path, json={"user": ranker.users[0], "sku_ids": skus, "cross": cross})
    answer = UserSkuAnswer.model_validate_json(response.content)
    direct = heavy.score(ranker.users[0], skus, cross)
    assert [s.score for s in answer.skus] == direct
    assert answer.unknown_skus == [s for s, score in zip(skus, direct, strict=True) if score is None]
    assert answer.artifact == heavy.artifact.content_hash
    assert direct[0] != heavy.score(ranker.users[0], skus, None)[0]


def test_ads_are_ordered_by_the_heavy_half_and_shown_as_the_light_half_says(client, ranker, heavy, light):
    user, skus = ranker.users[1], list(ranker.creatives)
    body = {"user": user, "skus": [{"sku_id": s} for s in [*skus, "no-such-sku"]], "top": 3}
    response = client.post(ADS_RANK.path, json=body)
    assert response.status_code == 200, response.text
    answer = AdsAnswer.model_validate_json(response.content)
    scores = dict(zip(skus, heavy.score(user, skus, None), strict=True))
    best = {s.sku_id: s.creatives[0] for s in light.rank(user, [SkuRequest(s) for s in skus])}
    expected = sorted(skus, key=lambda s: -scores[s])[:3]
    assert [(ad.sku_id, ad.score) for ad in answer.ads] == [(s, scores[s]) for s in expected]
    assert [(ad.creative.creative_id, ad.creative.score) for ad in answer.ads] == [best[s][:2] for s in expected]
    assert answer.unknown_skus == ["no-such-sku"]
    assert answer.degraded is None
    assert (answer.light_artifact, answer.heavy_artifact) == (light.artifact.content_hash, heavy.artifact.content_hash)


@pytest.mark.parametrize("path", [CREATIVES_RANK.path, ADS_RANK.path])
def test_a_422_crosses_the_proxy(client, path):
    response = client.post(path, json={"skus": [{"sku_id": "s", "creative": "c"}]})
    assert response.status_code == 422
    assert response.json()["error"] == "skus.0.creative is 'c': unknown field"


@pytest.mark.parametrize("path", [CREATIVES_RANK.path, ADS_RANK.path])
def test_a_feature_of_another_type_than_trained_on_is_a_422(client, ranker, path):
    response = client.post(path, json={"user": {"user_age": ["18-24"]}, "skus": [{"sku_id": s} for s in ranker.creatives]})
    assert response.status_code == 422, response.text
    assert "user feature 'user_age' is ['18-24']" in response.json()["error"]


def test_healthz_names_both_artifacts(client, light, heavy):
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "light": {"artifact": light.artifact.content_hash, "problem": None},
        "heavy": {"artifact": heavy.artifact.content_hash, "problem": None},
    }


def test_the_request_id_comes_back(client):
    assert (
        client.post(CREATIVES_RANK.path, json={"skus": [{"sku_id": "s"}]}, headers={"x-request-id": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )


def test_only_this_machine_is_listened_to(app):
    port = app.port
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port}
    assert listening == {"127.0.0.1"}


def test_the_options_are_applied(app):
    found = app.deployments()
    for name, part in app.config.active_deployments().items():
        applied = found[name].deployment_config
        autoscaling = applied.autoscaling_config
        autoscaling = autoscaling if isinstance(autoscaling, dict) else autoscaling.model_dump()
        for field in (
            "min_replicas",
            "max_replicas",
            "target_ongoing_requests",
            "upscale_delay_s",
            "downscale_delay_s",
            "look_back_period_s",
        ):
            assert autoscaling[field] == getattr(part, field), (name, field)
        assert str(autoscaling["aggregation_function"].value) == part.aggregation
        assert autoscaling["metrics_interval_s"] == 1.0
        for field in (
            "max_ongoing_requests",
            "max_queued_requests",
            "graceful_shutdown_timeout_s",
            "health_check_period_s",
            "max_surge_percent",
        ):
            assert getattr(applied, field) == getattr(part, field), (name, field)
        assert applied.ray_actor_options.num_cpus == part.num_cpus
    assert len(found["creatives"].replicas) == 2


def test_a_second_start_is_refused_not_mixed_in(app, ranker):
    from adray.errors import ServingError

    with pytest.raises(ServingError, match="adray-creatives.* already runs"):
        start(app.config)
    assert httpx.get(app.url + "/healthz").status_code == 200


def test_metrics_reach_prometheus(client, app):
    import ray

    client.post(CREATIVES_RANK.path, json={"skus": [{"sku_id": "no-such-sku"}]})
    node = ray.nodes()[0]
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"

    def exported() -> bool:
        text = httpx.get(address).text
        unknown = [
            line for line in text.splitlines() if line.startswith("ray_adray_unknown_skus") and 'deployment="CreativeRanker"' in line
        ]
        return 'le="7.5"' in text and "ray_adray_ranking_latency_ms_bucket" in text and bool(unknown)

    wait_for(exported, f"metrics of the ranker at {address}")
