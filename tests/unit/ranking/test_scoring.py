"""The artifacts answer what the joint graph would have."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from adray.artifact import load_artifact, writing_artifact
from adray.data.hashing import hash_strings
from adray.errors import ArtifactError, DataError
from adray.ranking.batch import RankingCollate
from adray.ranking.parity import split_max_abs_diff
from adray.ranking.scoring import HeavyRanker, LightRanker, SkuRequest
from tests.helpers.ranking_world import MODEL

USER = ("user_id", "user_age", "user_history", "user_liked_elements")


@pytest.fixture(scope="module")
def light(exported) -> LightRanker:
    return LightRanker.load(exported[1] / "light")


@pytest.fixture(scope="module")
def heavy(exported) -> HeavyRanker:
    return HeavyRanker.load(exported[1] / "heavy")


def request_of(row: dict) -> dict:
    return {name: row[name] for name in USER}


def joint_scores(exported, market, row: int, **how):
    batch = RankingCollate(market.catalogue, market.skus, training=False)(market.table.slice(row, 1))
    return exported[0].scores(batch, **how)


def test_split_parity_over_a_batch(exported, market, light):
    assert split_max_abs_diff(exported[0], light, market.batch()) <= 1e-5


def test_parity_sees_a_difference(exported, market):
    other = LightRanker.load(exported[1] / "light")
    with torch.no_grad():
        other.module.scorer.heads.bias[1] += 0.01
    assert split_max_abs_diff(exported[0], other, market.batch()) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(
    "section",
    [{"two_tower": True}, {"interaction": False}, {"exposure_head": "shared"}, {"ad_score": {"codes": 64, "dim": 4, "mode": "interp"}}],
)
def test_every_form_of_the_light_half_survives_the_split(build, market, tmp_path, section):
    model = build(light={**MODEL["light"], **section}, objective={"name": "jrc", "delta": True}).eval()
    model.export(tmp_path)
    assert split_max_abs_diff(model, LightRanker.load(tmp_path / "light"), market.batch()) <= 1e-5


@pytest.mark.parametrize("row", [0, 5, 9])
def test_rank_from_json_is_the_joint_graph_fed_the_same_score(exported, market, light, row):
    """The whole serving path: JSON user, stored SKU features, stored vectors."""
    log = market.table.slice(row, 1).to_pylist()[0]
    scores = joint_scores(exported, market, row)
    ids = [c["creative_id"] for c in log["candidates"]]
    ranked = light.rank(request_of(log), [SkuRequest(log["sku_id"], ids)], {log["sku_id"]: scores.ad_probability.item()})[0]
    assert ranked.known and not ranked.unknown
    pairs = zip(scores.click_logit.sigmoid().tolist(), scores.exposure_logit.softmax(0).tolist(), strict=True)
    assert {c: (s, p) for c, s, p in ranked.creatives} == {c: pytest.approx(v, abs=1e-5) for c, v in zip(ids, pairs, strict=True)}
    assert [s for _, s, _ in ranked.creatives] == sorted((s for _, s, _ in ranked.creatives), reverse=True)


def test_without_an_override_the_stored_history_is_fed(exported, market, light):
    log = market.table.slice(2, 1).to_pylist()[0]
    historical = joint_scores(exported, market, 2, historical=True)
    ranked = light.rank(request_of(log), [SkuRequest(log["sku_id"])])[0]
    ids = [c["creative_id"] for c in log["candidates"]]
    found = {c: s for c, s, _ in ranked.creatives}
    assert [found[i] for i in ids] == pytest.approx(historical.click_logit.sigmoid().tolist(), abs=1e-5)


def test_many_skus_at_once_are_each_as_alone(market, light):
    user = request_of(market.table.slice(4, 1).to_pylist()[0])
    requests = [SkuRequest(f"s{i}") for i in range(12)]
    together = light.rank(user, requests)
    for request, ranked in zip(requests, together, strict=True):
        alone = light.rank(user, [request])[0]
        assert [c for c, _, _ in alone.creatives] == [c for c, _, _ in ranked.creatives]
        for column in (1, 2):
            assert [c[column] for c in alone.creatives] == pytest.approx([c[column] for c in ranked.creatives], abs=1e-6)
        assert sum(p for _, _, p in ranked.creatives) == pytest.approx(1.0, abs=1e-5)


def test_unknown_names_are_named_and_the_rest_is_ranked(market, light):
    owner = {r["sku_id"]: [c["creative_id"] for c in r["candidates"]] for r in market.table.to_pylist()}
    foreign = owner["s1"][0]
    own = owner["s0"][0]
    asked = [SkuRequest("s0", ["nope", own, foreign, own]), SkuRequest("ghost"), SkuRequest("ghost", ["g1"]), SkuRequest("s2", [])]
    first, ghost, ghost_with_ids, empty = light.rank({}, asked)
    assert [c for c, _, _ in first.creatives] == [own] and first.unknown == ["nope", foreign] and first.known
    assert (ghost.known, ghost.creatives, ghost.unknown) == (False, [], [])
    assert (ghost_with_ids.known, ghost_with_ids.unknown) == (False, ["g1"])
    assert (empty.known, empty.creatives) == (True, [])
    assert light.rank({}, []) == []


def test_missing_features_are_null_and_unknown_ones_are_reported_once(light, caplog):
    with caplog.at_level(logging.WARNING):
        plain = light.rank({}, [SkuRequest("s0")])
        nulls = light.rank({"user_age": None, "user_liked_elements": None}, [SkuRequest("s0")])
        odd = [light.rank({"shoe_size": 44}, [SkuRequest("s0")]) for _ in range(3)]
    assert plain == nulls == odd[0] == odd[2]
    assert [r.getMessage() for r in caplog.records if "shoe_size" in r.getMessage()] == [
        "user feature 'shoe_size' is not one of the model's and is ignored"
    ]


@pytest.mark.parametrize(
    ("user", "message"),
    [({"user_age": [1]}, r"'user_age' is \[1\]"), ({"user_liked_elements": "x"}, "list of strings"), ({"user_age": 1.5}, "1.5")],
)
def test_features_of_the_wrong_type_are_named(light, user, message):
    with pytest.raises(DataError, match=message):
        light.rank(user, [SkuRequest("s0")])


@pytest.mark.parametrize("ctr", [-0.1, 1.5, float("nan"), "0.1", True])
def test_a_history_outside_zero_and_one_is_refused(light, ctr):
    with pytest.raises(DataError, match="'s0'"):
        light.rank({}, [SkuRequest("s0")], {"s0": ctr})


def test_numbers_and_their_text_are_one_id(light):
    assert light.rank({"user_age": 7}, [SkuRequest("s3")]) == light.rank({"user_age": "7"}, [SkuRequest("s3")])


# ---- heavy -----------------------------------------------------------------------------------------------------------


def test_heavy_scores_from_json_are_the_joint_graphs(exported, market, heavy):
    rows = market.table.slice(0, 6).to_pylist()
    for place, row in enumerate(rows):
        cross = {row["sku_id"]: {"cross_category_clicks": row["cross_category_clicks"]}}
        found = heavy.score(request_of(row), [row["sku_id"]], cross)
        assert found == pytest.approx(joint_scores(exported, market, place).ad_probability.tolist(), abs=1e-6)


def test_heavy_scores_many_skus_for_one_user_and_knows_its_gaps(market, heavy):
    user = request_of(market.table.slice(3, 1).to_pylist()[0])
    names = ["s0", "ghost", "s5"]
    found = heavy.score(user, names)
    assert found[1] is None
    assert found[0] == pytest.approx(heavy.score(user, ["s0"])[0], abs=1e-6)
    assert found[2] == pytest.approx(heavy.score(user, ["s5"])[0], abs=1e-6) != pytest.approx(found[0], abs=1e-6)
    assert heavy.score({}, []) == [] and heavy.score({}, ["ghost"]) == [None]


def test_cross_features_are_read_per_sku(market, heavy):
    base = heavy.score({}, ["s0", "s1"])
    moved = heavy.score({}, ["s0", "s1"], {"s1": {"cross_category_clicks": 4}})
    assert moved[0] == base[0] and moved[1] != base[1]
    with pytest.raises(DataError, match="'cross_category_clicks'"):
        heavy.score({}, ["s0"], {"s0": {"cross_category_clicks": "many"}})


# ---- artifacts -------------------------------------------------------------------------------------------------------


def test_the_light_artifact_holds_the_store_and_loads_without_the_heavy_one(exported, market, light):
    assert load_artifact(exported[1] / "light").kind == "ranker.light"
    assert not any(name.startswith(("heavy", "deep", "cross")) for name in light.artifact.tensors())
    store = light.store
    assert store.vectors.dtype == np.float32 and isinstance(store.vectors, np.memmap)
    assert sorted(light.sku_ids()) == sorted({f"s{i}" for i in range(12)}) and len(light.sku_ids(3)) == 3
    assert hash_strings(light.sku_ids()).tolist() == store.skus.tolist()
    assert int(store.offsets[-1]) == len(market.catalogue)


def test_heavy_names_are_those_of_its_skus(heavy):
    assert hash_strings(heavy.sku_ids()).tolist() == heavy._skus.tolist() and len(heavy.sku_ids(2)) == 2


def test_the_wrong_half_and_foreign_weights_are_refused(exported, build, tmp_path):
    with pytest.raises(ArtifactError, match=r"ranker\.heavy"):
        LightRanker.load(exported[1] / "heavy")
    model = build()
    model.export(tmp_path)
    other = build(light={**MODEL["light"], "hidden": [24, 8]})
    other.export(tmp_path / "other")
    manifest = load_artifact(tmp_path / "other" / "light")
    with writing_artifact(tmp_path / "mixed", "ranker.light", manifest.config) as folder:
        for file in (tmp_path / "light").iterdir():
            if file.name != "artifact.json":
                (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ArtifactError, match="do not fit"):
        LightRanker.load(tmp_path / "mixed")


def test_export_leaves_the_models_mode_and_equal_models_make_equal_artifacts(build, tmp_path):
    model = build().train()
    model.export(tmp_path / "a")
    assert model.training and model.light.training
    build().export(tmp_path / "b")
    hashes = [load_artifact(tmp_path / x / half).content_hash for half in ("light", "heavy") for x in "ab"]
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]
