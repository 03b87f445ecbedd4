"""The value on new creatives: hand calculation and limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.data.tables import Tables
from adray.errors import DataError
from adray.ranking.cold_start import cold_value
from adray.ranking.joint import JointRanker
from adray.ranking.judgement import judge_in_world
from adray.ranking.run_config import EvaluationConfig, RankerRunConfig
from adray.ranking.task import Features
from adray.ranking.world_value import RequestTruth
from adray.run import open_run
from tests.helpers.ranking_world import make_small_world

# Request 0 offers two new creatives beside an old one, request 1 only one, request 2 three.
TRUTH = RequestTruth(
    offsets=np.array([0, 3, 5, 8]),
    click_probability=np.array([0.9, 0.1, 0.3, 0.5, 0.2, 0.2, 0.6, 0.1]),
    propensity=np.full(8, 0.5),
    skus=np.array([0, 1, 2]),
    creatives=np.arange(8),
)
NEW = np.array([0, 1, 1, 0, 1, 1, 1, 1], bool)


def test_value_by_hand() -> None:
    found = cold_value(TRUTH, [9, 1, 2, 0, 9, 3, 1, 1], NEW)
    assert found is not None
    assert found.policy.value == pytest.approx((0.3 + 0.2) / 2)
    assert found.uniform.value == pytest.approx((0.2 + 0.3) / 2)
    assert found.oracle.value == pytest.approx((0.3 + 0.6) / 2)
    assert found.uplift_share.value == pytest.approx((0.5 - 0.5) / (0.9 - 0.5))
    assert (found.requests, found.creatives) == (2, 5)
    metrics = found.metrics()
    assert metrics["cold_uplift_share"] == found.uplift_share.value
    assert metrics["cold_uplift_share_low"] <= metrics["cold_uplift_share_high"]
    assert metrics["cold_true_ctr_oracle"] == pytest.approx(0.45)
    assert (metrics["cold_requests"], metrics["cold_creatives"]) == (2, 5)


def test_the_oracle_has_share_one_chance_none_and_ties_share() -> None:
    oracle, constant = cold_value(TRUTH, TRUTH.click_probability, NEW), cold_value(TRUTH, np.ones(8), NEW)
    assert oracle is not None and constant is not None
    assert (oracle.uplift_share.value, oracle.uplift_share.low) == pytest.approx((1, 1))
    assert constant.uplift_share.value == pytest.approx(0, abs=1e-12)


def test_the_score_of_old_creatives_does_not_count() -> None:
    scores = np.array([0.0, 2, 1, 0, 0, 1, 3, 2])
    again = scores + np.where(NEW, 0, 100)
    assert cold_value(TRUTH, scores, NEW) == cold_value(TRUTH, again, NEW)


def test_the_interval_is_that_of_the_mean_over_requests() -> None:
    """Standard error of the policy's click rate over requests, against the bootstrap's width."""
    rng = np.random.default_rng(0)
    n = 4000
    p = rng.random((n, 2))
    truth = RequestTruth(np.arange(0, 2 * n + 1, 2), p.ravel(), np.full(2 * n, 0.5), np.arange(n), np.arange(2 * n))
    scores = rng.random((n, 2))
    found = cold_value(truth, scores.ravel(), np.ones(2 * n, bool), resamples=2000)
    assert found is not None
    chosen = p[np.arange(n), scores.argmax(1)]
    assert found.policy.value == pytest.approx(chosen.mean())
    assert found.policy.high - found.policy.low == pytest.approx(2 * 1.96 * chosen.std() / np.sqrt(n), rel=0.08)
    assert found.uplift_share.low < 0 < found.uplift_share.high


def test_nothing_new_is_no_value_and_mismatches_are_refused() -> None:
    assert cold_value(TRUTH, np.zeros(8), np.zeros(8, bool)) is None
    assert cold_value(TRUTH, np.zeros(8), np.arange(8) == 3) is None
    with pytest.raises(DataError, match="7 scores and 8 marks for 8 candidates"):
        cold_value(TRUTH, np.zeros(7), NEW)


def test_a_run_reports_it_for_creatives_that_training_never_showed(tmp_path: Path) -> None:
    """Against a plain loop over the requests, with the model's own scores."""
    market = make_small_world(tmp_path, rows=40)
    rng = np.random.default_rng(5)
    owned = {c["sku_id"]: [] for c in pq.read_table(market.creatives).to_pylist()}
    for row in pq.read_table(market.creatives).to_pylist():
        owned[row["sku_id"]].append(row["creative_id"])
    users = sorted({row["user_id"] for row in market.table.to_pylist()})
    chances = {(u, s): rng.random(len(ids)).astype(np.float32).tolist() for u in users for s, ids in owned.items()}
    truth = [{"user_id": u, "sku_id": s, "creative_ids": owned[s], "click_probability": p} for (u, s), p in chances.items()]
    pq.write_table(pa.Table.from_pylist(truth), tmp_path / "truth.parquet")
    pq.write_table(market.table.drop_columns(["exposed", "clicked"]), tmp_path / "requests.parquet")
    tables = Tables(
        *(str(market.impressions), None, str(market.creatives), None),
        requests=str(tmp_path / "requests.parquet"),
        truth=str(tmp_path / "truth.parquet"),
        embeddings=None,
        quarantine="",
    )
    model = JointRanker(market.config, market.catalogue, market.skus).eval()
    values = {"kind": "ranker", "name": "r", "runs_dir": str(tmp_path), "data": {"path": str(market.impressions)}}
    run = open_run(RankerRunConfig.model_validate(values), owns_folder=True)
    judge_in_world(run, model, tables, Features(tmp_path / "catalogue", tmp_path / "skus"), EvaluationConfig(), 0)

    shown = {row["candidates"][row["exposed"]]["creative_id"] for row in market.table.to_pylist()}
    scores, start, gained, possible, requests = model.scores(market.batch(), historical=True).click_logit.numpy(), 0, 0.0, 0.0, 0
    for row in market.table.to_pylist():
        ids = [c["creative_id"] for c in row["candidates"]]
        new = [i for i, one in enumerate(ids) if one not in shown]
        if len(new) >= 2:
            chance = dict(zip(owned[row["sku_id"]], chances[row["user_id"], row["sku_id"]], strict=True))
            p = np.array([chance[ids[i]] for i in new])
            gained += p[scores[start + np.array(new)].argmax()] - p.mean()
            possible += p.max() - p.mean()
            requests += 1
        start += len(ids)
    assert requests > 3
    assert run.metrics["ranker/cold_uplift_share"] == pytest.approx(gained / possible, abs=1e-6)
    assert run.metrics["ranker/cold_requests"] == requests
