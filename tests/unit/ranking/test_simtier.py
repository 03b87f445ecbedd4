"""SimTier: the histogram against plain NumPy, and its way through model, artifact and JSON request."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adray.data.batch import Ragged
from adray.data.hashing import hash_strings
from adray.errors import ConfigError, DataError
from adray.ranking.batch import RankingCollate
from adray.ranking.config import RankerModelConfig
from adray.ranking.joint import JointRanker
from adray.ranking.parity import split_max_abs_diff
from adray.ranking.scoring import LightRanker, SkuRequest
from adray.ranking.simtier import ClickedCreatives, known_clicks, similarity_tiers
from tests.helpers.ranking_world import CONTENT_MODEL, MODEL

USER = ("user_age", "user_liked_elements", "user_clicked_creatives")


def ragged(lists: list[list[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, lists)])
    return Ragged(torch.tensor([i for one in lists for i in one], dtype=torch.int64), torch.from_numpy(offsets))


def brute_force(content: np.ndarray, candidates: list[list[int]], clicked: np.ndarray, clicks: list[list[int]], tiers: int) -> np.ndarray:
    rows = []
    for ours, theirs in zip(candidates, clicks, strict=True):
        for one in ours:
            if not content[one].any() or not theirs:
                rows.append(np.zeros(tiers))
                continue
            a, b = content[one].astype(np.float64), clicked[theirs].astype(np.float64)
            cosines = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
            rows.append(np.bincount(np.clip(np.floor((cosines + 1) / 2 * tiers).astype(int), 0, tiers - 1), minlength=tiers))
    return np.array(rows).reshape(-1, tiers)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(2, 30), st.integers(1, 8))
def test_counts_are_those_of_plain_numpy_and_sum_to_the_clicks(seed: int, tiers: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    content, clicked = rng.normal(size=(9, dim)).astype(np.float32), rng.normal(size=(7, dim)).astype(np.float32)
    content[0] = 0
    candidates = [rng.integers(9, size=rng.integers(1, 5)).tolist() for _ in range(rng.integers(1, 6))]
    clicks = [rng.integers(7, size=rng.integers(0, 6)).tolist() for _ in candidates]
    history = ClickedCreatives(torch.from_numpy(clicked), ragged(clicks))
    found = similarity_tiers(torch.from_numpy(content), ragged(candidates), history, tiers)
    assert np.array_equal(found.numpy(), brute_force(content, candidates, clicked, clicks, tiers))
    known = [len(theirs) * (one != 0) for ours, theirs in zip(candidates, clicks, strict=True) for one in ours]
    assert found.sum(1).tolist() == known
    shuffled = ClickedCreatives(history.content, ragged([rng.permutation(theirs).tolist() for theirs in clicks]))
    assert torch.equal(similarity_tiers(torch.from_numpy(content), ragged(candidates), shuffled, tiers), found)


def test_tiers_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosines 1, 0.6, 0, -0.8 and -1 in four tiers, computed row by row as for a batch that does not fit at once."""
    monkeypatch.setattr("adray.ranking.simtier._NUMBERS_AT_ONCE", 1)
    clicked = torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6], [-3.0, 0.0]])
    history = ClickedCreatives(clicked, ragged([[0, 1, 2, 3, 4], [], [4, 4]]))
    found = similarity_tiers(torch.tensor([[5.0, 0.0], [0.0, 0.0]]), ragged([[0, 1], [0], [0]]), history, 4)
    assert found.tolist() == [[2, 0, 1, 2], [0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]


def test_clicks_that_are_unknown_or_without_vector_are_skipped_and_the_latest_kept() -> None:
    content = np.array([[1, 0], [0, 0], [0, 2], [3, 3]], dtype=np.float16)
    rows = {10: 0, 11: 1, 12: 2, 13: 3}
    found = known_clicks(
        ragged([[10, 12, 99, 13, 11], [99, 11], [], [12, 12]]), 2, lambda keys: np.array([rows.get(int(k), -1) for k in keys]), content
    )
    lists = [
        found.content[found.lists.values[a:b]].tolist() for a, b in zip(found.lists.offsets[:-1], found.lists.offsets[1:], strict=True)
    ]
    assert lists == [[[0, 2], [3, 3]], [], [], [[0, 2], [0, 2]]]
    nothing = known_clicks(ragged([[99], []]), 2, lambda keys: np.full(keys.size, -1), np.zeros((0, 2), np.float16))
    assert nothing.lists.offsets.tolist() == [0, 0, 0] and nothing.content.shape == (0, 2)


@pytest.fixture(scope="module")
def trained(content_market, tmp_path_factory):
    """A model with SimTier and attributes, and its light artifact."""
    torch.manual_seed(3)
    model = JointRanker(RankerModelConfig.model_validate(CONTENT_MODEL), content_market.catalogue, content_market.skus).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = tmp_path_factory.mktemp("simtier")
    model.export(folder)
    return model, LightRanker.load(folder / "light")


def test_the_split_half_serves_it(trained, content_market):
    model, light = trained
    assert split_max_abs_diff(model, light, content_market.batch()) <= 1e-5


@pytest.mark.parametrize("row", [0, 5, 9])
def test_rank_from_json_is_the_joint_graph(trained, content_market, row):
    model, light = trained
    log = content_market.table.slice(row, 1).to_pylist()[0]
    scores = model.scores(content_market.batch(1, start=row), historical=True)
    ids = [c["creative_id"] for c in log["candidates"]]
    other = "s1" if log["sku_id"] != "s1" else "s2"
    ranked = light.rank({name: log[name] for name in USER}, [SkuRequest(other), SkuRequest(log["sku_id"])])[1]
    found = {c: s for c, s, _ in ranked.creatives}
    assert [found[i] for i in ids] == pytest.approx(scores.click_logit.sigmoid().tolist(), abs=1e-5)


def test_what_was_clicked_changes_the_order_but_unknown_ids_do_not(trained, content_market):
    _, light = trained
    known = content_market.catalogue.creatives[content_market.catalogue.content.any(axis=1)]
    names = {int(h): name for name in ("c0-0", "c3-0", "c5-0", "c7-0", "c8-0") for h in hash_strings([name])}
    clicked = [names[h] for h in names if h in known]
    scores = [light.rank({"user_clicked_creatives": one}, [SkuRequest("s4")])[0] for one in ([], ["gone"], clicked, ["gone", *clicked])]
    assert len(clicked) >= 2
    assert scores[0] == scores[1] and scores[2] == scores[3]
    assert [s for _, s, _ in scores[0].creatives] != pytest.approx([s for _, s, _ in scores[2].creatives], abs=1e-4)
    with pytest.raises(DataError, match="'user_clicked_creatives' is 'c0-0'"):
        light.rank({"user_clicked_creatives": "c0-0"}, [SkuRequest("s4")])


def test_the_model_reads_the_logarithm_of_one_plus_each_count(trained, content_market):
    batch = content_market.batch(20)
    counts = similarity_tiers(batch.creatives.content, batch.candidate_rows(), batch.clicked, 5)
    found = trained[0].light.tiers(batch.creatives.content, batch.candidate_rows(), batch.clicked)
    assert counts.max() > 1
    assert found.numpy() == pytest.approx(np.log(1 + counts.numpy()))


def test_histograms_vectors_and_attributes_are_learned_from(trained, content_market):
    model = copy.deepcopy(trained[0]).train()
    model(content_market.batch(training=True))["loss"].backward()
    for name in ("scorer.tiers_in.weight", "scorer.tiers_wide.weight", "encoder.content.1.weight", "encoder.attributes.weight"):
        assert model.light.get_parameter(name).grad.abs().sum() > 0, name


def test_a_batch_takes_its_clicks_along(content_market):
    batch = content_market.batch(20)
    moved = batch.to("cpu")
    assert moved.clicked is not None and torch.equal(moved.clicked.lists.values, batch.clicked.lists.values)
    assert batch.clicked.lists.lengths().max() == 4
    plain = RankingCollate(content_market.catalogue, content_market.skus, training=False)(content_market.table)
    assert plain.clicked is None
    without = content_market.table.drop_columns(["user_clicked_creatives"])
    collate = RankingCollate(content_market.catalogue, content_market.skus, training=False, simtier=content_market.config.light.simtier)
    with pytest.raises(DataError, match="'user_clicked_creatives'"):
        collate(without)


def test_configs_that_cannot_be(market):
    light = {**MODEL["light"], "simtier": {}}
    with pytest.raises(ConfigError, match=r"simtier is set but there is no embeddings table.*data\.embeddings"):
        JointRanker(RankerModelConfig.model_validate({**MODEL, "light": light}), market.catalogue, market.skus)
    wanted = {**MODEL["light"], "creative": {"attributes": {}}, "liked": None}
    with pytest.raises(ConfigError, match=r"attributes is set but no creative has any.*data\.attributes"):
        JointRanker(
            RankerModelConfig.model_validate({**MODEL, "light": {**wanted, "creative": {"elements": None, "attributes": {}}}}),
            market.catalogue,
            market.skus,
        )
    with pytest.raises(ValueError, match="two_tower"):
        RankerModelConfig.model_validate({"heavy": None, "light": {"simtier": {}, "two_tower": True}})
    assert "user_clicked_creatives" in RankerModelConfig.model_validate({"heavy": None, "light": {"simtier": {}}}).columns()
