from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from adray.data.schema import CANDIDATE
from adray.errors import ConfigError
from adray.ranking.batch import RankingCollate
from adray.ranking.catalogue import build_catalogue
from adray.ranking.config import RankerModelConfig
from adray.ranking.joint import JointRanker, LogBias
from adray.ranking.objectives import click_list_loss
from adray.ranking.objectives.combined import single_exposures
from adray.ranking.ragged import list_mean
from adray.ranking.sku_table import build_sku_table
from adray.ranking.tables import FieldValues
from tests.helpers.ranking_world import MODEL

NAMES = ["pointwise", "vam", "listwise", "listwise_click", "jrc", "clid"]


def with_light(**changes) -> dict:
    return {**MODEL["light"], **changes}


def heavy_gradients(model, batch, **loss) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(batch)["loss"].backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.heavy.named_parameters()}


def same(one, other) -> bool:
    return all(torch.allclose(one[name], other[name], atol=1e-7) for name in one)


@pytest.mark.parametrize(("name", "delta"), [(name, delta) for name in NAMES for delta in (False, True) if (name, delta) != ("vam", True)])
def test_every_objective_trains_every_weight(market, build, name, delta):
    model = build(objective={"name": name, "delta": delta})
    batch = market.batch(training=True)
    outputs = model(batch)
    assert all(value.dim() == 0 and torch.isfinite(value) for value in outputs.values())
    outputs["loss"].backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # VAM's targets are counts, which the position does not shift.
    assert without == ({"click_bias.tables.0.weight"} if name == "vam" else set())


@pytest.mark.parametrize("name", NAMES)
def test_loss_falls(market, build, name):
    model = build(objective={"name": name})
    batch = market.batch(training=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = model(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_loss_is_the_weighted_sum_of_its_terms(market, build):
    weights = {"ad_weight": 0.5, "light_weight": 2.0, "exposure_weight": 0.3, "click_list_weight": 0.7}
    out = build(objective={"name": "listwise_click", **weights})(market.batch(training=True))
    light = out["loss/click"] + 0.3 * out["loss/exposure"] + 0.7 * out["loss/click_list"]
    assert out["loss"].item() == pytest.approx((0.5 * out["loss/ad"] + 2.0 * light).item(), rel=1e-5)


# ---- what passes between the halves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "coupled"), [("stop", False), ("sum", True), ("interp", True)])
def test_the_light_loss_reaches_the_heavy_half_through_the_quantiser_alone(market, build, mode, coupled):
    light = with_light(ad_score={"codes": 256, "dim": 16, "mode": mode}, historical_share=0.0)
    batch = market.batch(training=True)
    with_both = heavy_gradients(build(light=light, objective={"name": "pointwise"}), batch)
    alone = heavy_gradients(build(light=light, objective={"name": "pointwise", "light_weight": 0.0}), batch)
    assert same(with_both, alone) is not coupled


def test_trained_separately_the_halves_share_nothing(market, build):
    batch = market.batch(training=True)
    model = build(joint=False, objective={"name": "listwise_click"})
    both = heavy_gradients(model, batch)
    assert same(both, heavy_gradients(build(joint=False, objective={"name": "listwise_click", "light_weight": 0.0}), batch))
    before = model.eval().scores(batch)
    with torch.no_grad():
        model.heavy.out.bias += 1.0
    after = model.scores(batch)
    assert torch.equal(before.click_logit, after.click_logit) and not torch.equal(before.ad_probability, after.ad_probability)


def test_rows_fed_with_history_send_nothing_to_the_heavy_half(market, build):
    light = with_light(historical_share=1.0)
    batch = market.batch(training=True)
    both = heavy_gradients(build(light=light), batch)
    assert same(both, heavy_gradients(build(light=light, objective={"light_weight": 0.0}), batch))


def test_the_historical_share_is_the_share_of_replaced_rows(market, build):
    model = build(light=with_light(historical_share=0.3))
    batch = market.batch(training=True)
    logit = torch.full((len(batch),), 5.0)
    torch.manual_seed(0)
    replaced = torch.stack([model._light_input(logit, batch) == batch.ad_history for _ in range(50)]).float().mean()
    assert replaced.item() == pytest.approx(0.3, abs=0.02)
    model.eval()
    assert torch.equal(model._light_input(logit, batch), logit.sigmoid())


def test_scores_follow_the_live_ad_score_or_the_history(market, build):
    model, batch = build().eval(), market.batch()
    live, historical = model.scores(batch), model.scores(batch, historical=True)
    assert not torch.equal(live.click_logit, historical.click_logit)
    assert torch.equal(live.ad_probability, historical.ad_probability)
    moved = type(batch)(batch.impressions, batch.creatives, batch.creative_index, batch.ad_history * 0.1)
    assert torch.equal(model.scores(moved).click_logit, live.click_logit)
    assert not torch.equal(model.scores(moved, historical=True).click_logit, historical.click_logit)


def test_clid_teaches_every_candidate(market, build):
    model = build(objective={"name": "clid", "clid_weight": 1.0})
    out = model(market.batch(training=True))
    assert {"loss/teacher", "loss/clid", "loss/click", "loss/ad"} <= out.keys()
    silent = build(objective={"name": "clid", "clid_weight": 0.0})(market.batch(training=True))
    assert out["loss"].item() != pytest.approx(silent["loss"].item())


def test_the_click_list_term_takes_logged_propensities_where_a_list_has_them_all(market, build):
    batch = market.batch()
    model = build(objective={"name": "listwise_click"}).eval()
    output = model.scores(batch)
    lists, rows, clicked = batch.lists(), batch.impressions.exposed_rows(), batch.impressions.clicked
    click = output.click_logit + output.click_bias[lists.segments]

    def expected(policy: torch.Tensor) -> float:
        return list_mean(click_list_loss(policy, click, clicked, lists, rows), lists.ordered).item()

    def found(propensity: torch.Tensor) -> float:
        return model(replace(batch, impressions=replace(batch.impressions, propensity=propensity)))["loss/click_list"].item()

    logged = torch.rand_like(click) + 0.1
    assert found(logged) == pytest.approx(expected(logged.log()), rel=1e-5)
    unknown = torch.full_like(click, float("nan"))
    assert found(unknown) == pytest.approx(expected(output.exposure_logit), rel=1e-5)
    # One missing propensity makes its whole list fall back to the head.
    partly = logged.clone()
    partly[batch.impressions.candidates.offsets[:-1]] = float("nan")
    assert found(partly) == pytest.approx(expected(output.exposure_logit), rel=1e-5)
    assert found(logged) != pytest.approx(found(unknown), rel=1e-3)


# ---- the shown creative's offset ---------------------------------------------------------------------------------------


def test_the_ad_learns_what_the_shown_creative_leaves_unexplained(market, build):
    model, batch = build().eval(), market.batch(training=True)
    scores, lists, rows = model.scores(batch), batch.lists(), batch.impressions.exposed_rows()
    pi, p = batch.impressions.propensity, scores.click_logit.sigmoid()
    average = torch.stack([(pi[lists.segments == i] * p[lists.segments == i]).sum() for i in range(len(batch))])
    logit = scores.ad_probability.logit() + scores.click_logit[rows] - average.logit() + scores.ad_bias
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logit, batch.impressions.clicked)
    assert model(batch)["loss/ad"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    "sections",
    [
        {"joint": False},
        {"objective": {"creative_offset": False}},
        {"objective": {"name": "vam"}},
        {"objective": {"name": "pointwise"}, "light": with_light(exposure_head="shared")},
    ],
)
def test_without_a_use_for_it_the_offset_is_none(market, build, sections):
    batch = market.batch(training=True)
    alone = build(light=None).eval()
    both = build(**sections).eval()
    both.heavy.load_state_dict(alone.heavy.state_dict())
    both.ad_bias.load_state_dict(alone.ad_bias.state_dict())
    assert both(batch)["loss/ad"].item() == pytest.approx(alone(batch)["loss/ad"].item(), rel=1e-6)


def test_the_ad_loss_sends_the_light_half_nothing(market, build):
    model = build(objective={"light_weight": 0.0})
    model(market.batch(training=True))["loss"].backward()
    assert not any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.light.parameters())


# ---- position ----------------------------------------------------------------------------------------------------------


def test_position_shifts_logged_clicks_but_no_served_score(market, build):
    model, batch = build().eval(), market.batch()
    before = model.scores(batch)
    with torch.no_grad():
        model.click_bias.tables[0].weight.mul_(3.0)
        model.ad_bias.tables[0].weight.mul_(3.0)
    after = model.scores(batch)
    assert torch.equal(before.click_logit, after.click_logit) and torch.equal(before.ad_probability, after.ad_probability)
    assert torch.allclose(after.click_bias, 3 * before.click_bias, atol=1e-6) and before.click_bias.std() > 0


def test_bias_is_centred_and_absent_columns_are_no_circumstance():
    bias = LogBias(RankerModelConfig.model_validate({"bias": ["position"]}).bias)
    torch.nn.init.normal_(bias.tables[0].weight)
    rows = FieldValues(3, {"position": torch.tensor([11, 11, 12])})
    out = bias(rows)
    assert out.mean().item() == pytest.approx(0.0, abs=1e-6) and out[0] == out[1] != out[2]
    assert bias.eval()(FieldValues(2)).tolist() == [0.0, 0.0]


# ---- groups, halves and lists ------------------------------------------------------------------------------------------


def test_parameter_groups_cover_every_parameter_once(build):
    model = build(table_lr=0.05, objective={"name": "clid"})
    tables, rest = model.parameter_groups()
    assert tables["lr"] == 0.05 and "lr" not in rest
    ids = [id(p) for group in (tables, rest) for p in group["params"]]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in model.parameters()}
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].endswith("weight") for p in tables["params"])
    assert {"light.scorer.ad_score.weight", "light.encoder.id.weight"} <= {names[id(p)] for p in tables["params"]}
    assert "lr" not in build().parameter_groups()[0]


def test_either_half_alone(market, build):
    batch = market.batch(training=True)
    heavy = build(light=None).eval()
    assert set(heavy(batch)) == {"loss", "loss/ad"} and heavy.scores(batch).click_logit is None
    light = build(heavy=None).eval()
    assert "loss/ad" not in light(batch) and torch.equal(light.scores(batch).ad_probability, batch.ad_history)


def test_click_logits_start_at_the_global_ctr(market):
    torch.manual_seed(0)
    model = JointRanker(RankerModelConfig.model_validate(MODEL), market.catalogue, market.skus).eval()
    scores = model.scores(market.batch())
    ctr = market.skus.global_ctr
    assert scores.ad_probability.mean().item() == pytest.approx(ctr, rel=0.3)
    assert scores.click_logit.sigmoid().mean().item() == pytest.approx(ctr, rel=0.3)


def test_sources_without_data_are_refused(market):
    config = RankerModelConfig.model_validate({**MODEL, "light": with_light(creative={"content": {}})})
    with pytest.raises(ConfigError, match="content"):
        JointRanker(config, market.catalogue, market.skus)


# ---- aggregated lists ----------------------------------------------------------------------------------------------------

HEADLINES = {
    "heavy": None,
    "light": {"creative": {"dim": 4, "elements": None, "id": None, "copy_ngrams": {"rows": 100, "dim": 4}}, "hidden": [8, 4],
              "ad_score": {"codes": 64, "dim": 4}},
}  # fmt: skip


def headline_tests(folder, model: dict):
    """Tests in which the word 'good' doubles the click rate; one single exposure among them."""
    good, bad = [f"good thing {i}" for i in range(30)], [f"other thing {i}" for i in range(30)]
    ids = [f"g{i}" for i in range(30)] + [f"b{i}" for i in range(30)]
    skus = [f"t{i}" for i in range(30)] * 2
    pq.write_table(pa.table({"creative_id": ids, "sku_id": skus, "copy": good + bad}), folder / "creatives.parquet")
    lists = [
        [{"creative_id": f"g{i}", "impressions": 1000, "clicks": 20}, {"creative_id": f"b{i}", "impressions": 2000, "clicks": 20}]
        for i in range(30)
    ]
    table = pa.table(
        {
            "request_id": [f"t{i}" for i in range(30)],
            "sku_id": [f"t{i}" for i in range(30)],
            "candidates": pa.array(lists, pa.list_(CANDIDATE)),
            "exposed": pa.array([None] * 30, pa.int32()),
            "clicked": pa.array([None] * 30, pa.int8()),
        }
    )
    pq.write_table(table, folder / "impressions.parquet")
    config = RankerModelConfig.model_validate(model)
    catalogue = build_catalogue(str(folder / "creatives.parquet"), folder / "catalogue")
    skus_table = build_sku_table(str(folder / "impressions.parquet"), folder / "skus", config)
    torch.manual_seed(0)
    return JointRanker(config, catalogue, skus_table), RankingCollate(catalogue, skus_table, training=True), table


@pytest.mark.parametrize("objective", ["multinomial", "binomial", "vam"])
def test_light_alone_learns_aggregated_tests(tmp_path, objective):
    model, collate, table = headline_tests(tmp_path, {**HEADLINES, "objective": {"aggregated": objective}})
    batch = collate(table)
    assert not single_exposures(batch.impressions).any()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
    logits = model.eval().scores(batch).click_logit.reshape(30, 2)
    assert (logits[:, 0] > logits[:, 1]).all()
    if objective == "multinomial":
        # The true log ratio of click rates is ln 2.
        assert (logits[:, 0] - logits[:, 1]).mean().item() == pytest.approx(0.693, abs=0.1)


def test_mixed_batches_use_each_list_as_what_it_is(tmp_path):
    model, collate, table = headline_tests(tmp_path, {**HEADLINES, "objective": {"name": "listwise_click"}})
    model.eval()
    rows = table.to_pylist()
    rows[0] |= {"candidates": [{"creative_id": "g0"}, {"creative_id": "b0"}], "exposed": 1, "clicked": 1}
    mixed = collate(pa.Table.from_pylist(rows, table.schema))
    out = model(mixed)
    assert {"loss/click", "loss/exposure", "loss/click_list", "loss/multinomial"} <= out.keys()
    only = model(collate(pa.Table.from_pylist(rows[1:], table.schema)))
    assert only["loss/multinomial"].item() == pytest.approx(out["loss/multinomial"].item(), rel=1e-5)
    first = model(collate(pa.Table.from_pylist(rows[:1], table.schema)))
    assert first["loss/click_list"].item() == pytest.approx(out["loss/click_list"].item(), rel=1e-5)


def test_heavy_ad_loss_of_aggregated_lists_is_per_impression(tmp_path):
    heavy = {"sku": [{"name": "sku_id", "rows": 50}], "dim": 4, "deep": [4]}
    model, collate, table = headline_tests(tmp_path, {**HEADLINES, "heavy": heavy})
    loss = model.eval()(collate(table))["loss/ad"].item()
    p = model.scores(collate(table)).ad_probability.double()
    expected = -(40 * p.log() + 2960 * (1 - p).log()).sum() / (30 * 3000)
    assert loss == pytest.approx(expected.item(), rel=1e-4)
