from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from adray.simulation.config import EffectsConfig, WorldConfig
from adray.simulation.truth import PolicyValues, write_truth
from adray.simulation.world import simulate_world
from tests.unit.simulation.conftest import World, draw_model


def read_truth(world: World) -> dict[tuple[str, str], dict[str, float]]:
    rows = pq.read_table(world.folder / "truth.parquet").to_pylist()
    return {(row["user_id"], row["sku_id"]): dict(zip(row["creative_ids"], row["click_probability"], strict=True)) for row in rows}


def test_truth_is_the_full_cross_of_its_users(world: World) -> None:
    truth = read_truth(world)
    creatives = pq.read_table(world.folder / "creatives.parquet", columns=["sku_id", "creative_id"]).to_pylist()
    by_sku: dict[str, list[str]] = {}
    for row in creatives:
        by_sku.setdefault(row["sku_id"], []).append(row["creative_id"])
    assert len(truth) == world.config.truth_users * world.config.skus
    assert all(list(probabilities) == by_sku[sku] for (_, sku), probabilities in truth.items())


def test_policy_values_follow_from_the_files(world: World) -> None:
    truth = read_truth(world)
    values = []
    for row in pq.read_table(world.folder / "requests.parquet").to_pylist():
        assert row["position"] == 0
        p = truth[row["user_id"], row["sku_id"]]
        candidates = [c["creative_id"] for c in row["candidates"]]
        assert candidates == list(p)
        logging = sum(p[c["creative_id"]] * c["propensity"] for c in row["candidates"])
        values.append([min(p.values()), sum(p.values()) / len(p), logging, max(p.values())])
    expected = dict(zip(("worst", "uniform", "logging", "oracle"), np.mean(values, axis=0), strict=True))
    for name, value in expected.items():
        assert world.summary["policy_values"][name] == pytest.approx(value, rel=1e-5)
    found = world.summary["policy_values"]
    assert found["worst"] < found["uniform"] < found["logging"] < found["oracle"]
    assert found["logging"] < found["best_single"] < found["oracle"]
    share = (found["best_single"] - found["logging"]) / (found["oracle"] - found["logging"])
    assert world.summary["uplift_share"]["best_single"] == pytest.approx(share)


def test_clicks_at_the_first_position_follow_the_truth_table(world: World) -> None:
    truth = read_truth(world)
    expected, variance, clicks = 0.0, 0.0, 0
    for row in pq.read_table(world.folder / "impressions").to_pylist():
        p = truth.get((row["user_id"], row["sku_id"]))
        if p is not None and row["position"] == 0:
            probability = p[row["candidates"][row["exposed"]]["creative_id"]]
            expected += probability
            variance += probability * (1 - probability)
            clicks += row["clicked"]
    assert expected > 30
    assert abs(clicks - expected) < 3.5 * variance**0.5


def test_mean_probability_weighs_users_by_activity(tmp_path: Path) -> None:
    model = draw_model(WorldConfig(users=30, skus=5), seed=7)
    users = np.array([2, 11, 29])
    mean = write_truth(tmp_path / "truth.parquet", model, users, -2.0)
    activity = model.users.activity[users]
    np.testing.assert_allclose(mean, activity @ model.cross(users, -2.0) / activity.sum(), rtol=1e-12)
    written = pq.read_table(tmp_path / "truth.parquet").column("user_id").unique().to_pylist()
    assert written == ["u0000002", "u0000011", "u0000029"]


def test_without_interaction_the_best_single_creative_is_the_oracle(tmp_path: Path) -> None:
    effects = EffectsConfig(interaction=0.0)
    config = WorldConfig(users=100, skus=10, impressions=2000, requests=200, effects=effects, images=False)
    values = simulate_world(config, 0, tmp_path / "w")["policy_values"]
    assert values["best_single"] == pytest.approx(values["oracle"], rel=1e-12)


def test_uplift_share() -> None:
    values = PolicyValues(worst=0.0, uniform=0.01, logging=0.02, best_single=0.03, oracle=0.04)
    assert values.uplift_share(0.03) == pytest.approx(0.5)
    assert values.uplift_share(0.01) == pytest.approx(-0.5)
    assert PolicyValues(0.1, 0.1, 0.1, 0.1, 0.1).uplift_share(0.1) == 0.0
