"""The two networks against direct readings of their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from adray.data.batch import Ragged
from adray.errors import DataError
from adray.ranking.batch import RankingCollate
from adray.ranking.config import RankerModelConfig
from adray.ranking.layers import AttentionBlock, CrossLayer
from adray.ranking.tables import FieldValues
from adray.ranking.user_sku import pad_latest
from tests.helpers.ranking_world import MODEL


def light_section(**changes) -> dict:
    return {**MODEL["light"], **changes}


# ---- heavy -----------------------------------------------------------------------------------------------------------


def test_cross_layer_is_dcn_v2_equation_one():
    torch.manual_seed(0)
    full, low = CrossLayer(5, None), CrossLayer(5, 2)
    start, value = torch.randn(3, 5), torch.randn(3, 5)
    assert torch.allclose(full(start, value), start * (value @ full.weight.weight.T + full.weight.bias) + value)
    weight = low.weight[1].weight @ low.weight[0].weight
    assert torch.linalg.matrix_rank(weight) == 2
    assert torch.allclose(low(start, value), start * (value @ weight.T + low.weight[1].bias) + value, atol=1e-6)


def test_attention_of_the_last_query_alone_is_the_last_of_all():
    torch.manual_seed(0)
    block, tokens = AttentionBlock(8, 2, 16), torch.randn(3, 5, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)[:, None, None, :]
    assert torch.allclose(block(tokens, mask)[:, -1:], block(tokens, mask, queries=1), atol=1e-6)
    torch_block = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True).eval()
    torch_block.self_attn.in_proj_weight.data = torch.cat([block.query.weight, block.key_value.weight])
    torch_block.self_attn.in_proj_bias.data = torch.cat([block.query.bias, block.key_value.bias])
    torch_block.self_attn.out_proj.load_state_dict(block.out.state_dict())
    torch_block.linear1.load_state_dict(block.feed_forward[0].state_dict())
    torch_block.linear2.load_state_dict(block.feed_forward[2].state_dict())
    expected = torch_block(tokens, src_key_padding_mask=~mask[:, 0, 0])
    assert torch.allclose(block(tokens, mask)[:, -1], expected[:, -1], atol=1e-5)


def test_histories_are_cut_to_their_latest_and_aligned_right():
    lists = Ragged(torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([0, 4, 4, 6]))
    hashes, there = pad_latest(lists, 3)
    assert hashes.tolist() == [[2, 3, 4], [0, 0, 0], [0, 5, 6]]
    assert there.tolist() == [[True] * 3, [False] * 3, [False, True, True]]
    assert pad_latest(lists, 9)[0].shape == (3, 4)
    assert pad_latest(Ragged(torch.empty(0, dtype=torch.long), torch.zeros(3, dtype=torch.long)), 3)[0].shape == (2, 0)


def test_heavy_score_knows_no_neighbour(market, build):
    """A row's score is the same alone and in any batch, whatever the length of the others' histories."""
    model = build().eval()
    whole = model.heavy(market.batch().impressions).logit
    for row in (0, 3, 11):
        batch = RankingCollate(market.catalogue, market.skus, training=False)(market.table.slice(row, 1))
        assert torch.allclose(model.heavy(batch.impressions).logit, whole[row : row + 1], atol=1e-5)


def test_heavy_reads_order_target_and_items_of_the_history(market, build):
    model = build().eval()
    rows = market.batch().impressions
    long = next(i for i in range(len(rows)) if rows.bags["user_history"].lengths()[i] >= 4)

    def score(history: list[int], sku: int) -> float:
        ids = {name: value[long : long + 1] for name, value in rows.ids.items()} | {"sku_id": torch.tensor([sku])}
        numbers = {name: value[long : long + 1] for name, value in rows.numbers.items()}
        bag = Ragged(torch.tensor(history, dtype=torch.long), torch.tensor([0, len(history)]))
        return model.heavy(FieldValues(1, ids, numbers, {"user_history": bag})).logit.item()

    a, b, c, d, e = (int(h) for h in torch.randint(1, 2**60, (5,)))
    assert score([a, b], c) != pytest.approx(score([b, a], c), abs=1e-7)
    assert score([a, b], c) != pytest.approx(score([a, d], c), abs=1e-7)
    # Only the latest four are read.
    assert score([e, a, b, c, d], c) == pytest.approx(score([a, b, c, d], c), abs=1e-6)


def test_a_history_column_that_is_absent_is_named(market, build):
    with pytest.raises(DataError, match="'user_history'"):
        build().heavy(FieldValues(1, market.batch(1).impressions.ids, market.batch(1).impressions.numbers, {}))


# ---- light -----------------------------------------------------------------------------------------------------------


def light_inputs(model, market):
    batch = market.batch()
    return batch, batch.lists(), torch.rand(len(batch))


def test_first_layer_in_parts_is_one_layer_over_the_concatenation(market, build):
    model = build().eval()
    light, scorer = model.light, model.light.scorer
    batch, lists, p = light_inputs(model, market)
    out = light(batch.impressions, batch.creatives, batch.candidate_rows(), p)
    rows, seg = batch.impressions, lists.segments
    encoded = light.encoder(batch.creatives)[batch.creative_index]
    vectors, exposure_bias = encoded[:, :-1], encoded[:, -1]
    user = torch.cat([light.user.tables(rows), light.encoder.elements.bag(rows.bags["user_liked_elements"])], 1)
    sku = light.sku.tables(rows)
    taste = light.user.taste(user) + light.sku.taste(sku)
    pair = taste[seg] * vectors
    inputs = torch.cat([user[seg], sku[seg], scorer.ad_score(p)[seg], vectors, pair], 1)
    weights = (light.user.hidden, light.sku.hidden, scorer.score_in, scorer.creative_in, scorer.pair_in)
    hidden = F.relu(F.linear(inputs, torch.cat([w.weight for w in weights], 1), scorer.score_in.bias))
    last = scorer.mlp(hidden)
    wide = F.linear(torch.cat([vectors, pair], 1), torch.cat([scorer.creative_wide.weight, scorer.pair_wide.weight], 1))
    classes = scorer.heads(last) + wide
    assert torch.allclose(out.classes, classes, atol=1e-5)
    assert torch.allclose(out.click, classes[:, 1] - classes[:, 0], atol=1e-5)
    assert torch.allclose(out.exposure, scorer.exposure(torch.cat([last, vectors], 1)).squeeze(1) + exposure_bias, atol=1e-5)


@pytest.mark.parametrize("two_tower", [False, True])
@pytest.mark.parametrize(("head", "shapes"), [("own", False), ("shared", True)])
def test_the_exposure_head_shapes_the_rest_only_when_shared(market, build, two_tower, head, shapes):
    model = build(light=light_section(two_tower=two_tower, exposure_head=head))
    batch, lists, p = light_inputs(model, market)
    model.light(batch.impressions, batch.creatives, batch.candidate_rows(), p).exposure.square().sum().backward()
    reached = {n for n, q in model.light.named_parameters() if q.grad is not None and q.grad.abs().sum() > 0}
    own = {"encoder.exposure_bias.weight", *(n for n, _ in model.light.named_parameters() if n.startswith("scorer.exposure"))}
    assert ("encoder.direct.weight" in reached and "user.hidden.weight" in reached) is shapes
    assert reached == own & reached if not shapes else reached > {"encoder.direct.weight"}


def test_delta_adds_the_ad_logit(market, build):
    plain, delta = build().eval(), build(objective={"delta": True}).eval()
    delta.load_state_dict(plain.state_dict())
    batch, lists, p = light_inputs(plain, market)
    arguments = (batch.impressions, batch.creatives, batch.candidate_rows(), p)
    expected = plain.light(*arguments).click + torch.logit(p)[lists.segments]
    assert torch.allclose(delta.light(*arguments).click, expected, atol=1e-5)
    assert torch.equal(delta.light(*arguments).exposure, plain.light(*arguments).exposure)


def test_two_tower_is_an_inner_product_blind_to_the_ad_score(market, build):
    model = build(light=light_section(two_tower=True)).eval()
    batch, lists, p = light_inputs(model, market)
    arguments = (batch.impressions, batch.creatives, batch.candidate_rows())
    assert torch.equal(model.light(*arguments, p).click, model.light(*arguments, 1 - p).click)
    # Linear in the creative vector: the score of a mean vector is the mean of scores.
    side = model.light.user_side(batch.impressions) + model.light.sku_side(batch.impressions)
    vectors = torch.randn(2, 8)
    mixed = F.pad(torch.cat([vectors, vectors.mean(0, keepdim=True)]), (0, 1))
    out = model.light.score(side, p, mixed, torch.arange(3), torch.zeros(3, dtype=torch.long)).click
    assert out[:2].mean().item() == pytest.approx(out[2].item(), abs=1e-5)


def test_without_interaction_the_order_is_the_same_additive_input(market, build):
    model = build(light=light_section(interaction=False, user=[], sku=[], liked=None)).eval()
    batch, lists, p = light_inputs(model, market)
    out = model.light(batch.impressions, batch.creatives, batch.candidate_rows(), torch.full_like(p, 0.1))
    # No user, no SKU, one ad score: a creative scores the same wherever it stands.
    for creative in batch.creative_index.unique()[:5]:
        assert out.click[batch.creative_index == creative].std() < 1e-5


def test_creative_vector_knows_no_user_and_hides_ids_it_cannot_trust(market, build):
    model = build().eval()
    creatives = market.batch().creatives
    unseen = type(creatives)(**{**vars(creatives), "impressions": torch.zeros(len(creatives))})
    renamed = type(creatives)(**{**vars(unseen), "ids": creatives.ids + 1})
    assert not torch.allclose(model.light.encoder(creatives), model.light.encoder(unseen))
    assert torch.equal(model.light.encoder(unseen), model.light.encoder(renamed))


def test_id_dropout_hides_ids_in_training_only(market, build):
    creative = {**MODEL["light"]["creative"], "id": {"rows": 100, "dim": 8, "dropout": 0.5}}
    model = build(light=light_section(creative=creative))
    encoder, creatives = model.light.encoder, market.batch().creatives
    hidden = torch.stack([encoder._visible_ids(creatives) == 0 for _ in range(200)]).float().mean()
    assert hidden.item() == pytest.approx(0.5, abs=0.05)
    encoder.eval()
    assert (encoder._visible_ids(creatives) != 0).all()


# ---- config ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"light": None}, "neither heavy nor light"),
        ({"heavy": {}}, "no feature field"),
        ({"heavy": {"user": ["user_id", "user_id"]}}, "'user_id' twice"),
        ({"heavy": {"user": ["user_id"], "history": {}}}, "history.target"),
        ({"heavy": {"sku": ["sku_id"], "dim": 9, "history": {}}}, "heads"),
        ({"objective": {"name": "clid"}}, "clid"),
        ({"objective": {"name": "vam", "delta": True}}, "delta"),
        ({"light": {"creative": {"elements": None, "id": None}}}, "no source"),
        ({"light": {"liked": "user_liked_elements", "creative": {"elements": None}}}, "light.liked"),
        ({"bias": [{"name": "position", "kind": "number"}]}, "model.bias"),
    ],
)
def test_combinations_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        RankerModelConfig.model_validate(config)


def test_the_columns_a_model_reads():
    config = RankerModelConfig.model_validate({**MODEL, "objective": {"name": "jrc", "jrc_session": "user_id"}})
    assert set(config.columns()) == {
        "user_id", "user_age", "sku_id", "sku_price", "cross_category_clicks", "position", "user_history", "user_liked_elements",
    }  # fmt: skip
    assert config.number_fields() == {"sku_price": 8, "cross_category_clicks": 4}
