"""True policy values: hand calculation, brute force, and the join of requests with the truth table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.data.schema import CANDIDATE
from adray.errors import DataError
from adray.ranking import world_value as wv


def _truth() -> wv.RequestTruth:
    """Users 1 and 2 want different creatives of SKU 0; SKU 1 has one best creative for all."""
    return wv.RequestTruth(
        offsets=np.array([0, 2, 4, 7]),
        click_probability=np.array([0.4, 0.1, 0.1, 0.3, 0.2, 0.6, 0.1]),
        propensity=np.array([0.5, 0.5, 0.9, 0.1, 0.2, 0.2, 0.6]),
        skus=np.array([0, 0, 1]),
        creatives=np.array([0, 1, 0, 1, 2, 3, 4]),
    )


def test_true_ad_auc_by_hand() -> None:
    # Chances under the policy: 0.25, 0.12, 0.22. Pairs of a click in one request and none in another, and ties with itself.
    p = np.array([0.25, 0.12, 0.22])
    scores = np.array([3.0, 1.0, 2.0])
    wins = sum(
        a * (1 - b) * (1.0 if s > t else 0.5 if s == t else 0.0)
        for a, s in zip(p, scores, strict=True)
        for b, t in zip(p, scores, strict=True)
    )
    assert wv.true_ad_auc(_truth(), scores) == pytest.approx(wins / (p.sum() * (1 - p).sum()))
    assert wv.true_ad_auc(_truth(), scores) > wv.true_ad_auc(_truth(), -scores)
    with pytest.raises(DataError, match="2 ad scores for 3 requests"):
        wv.true_ad_auc(_truth(), scores[:2])


def test_values_by_hand() -> None:
    found = wv.world_value(_truth(), [1, 0, 1, 0, 0, 0, 1])
    assert found.policy.value == pytest.approx((0.4 + 0.1 + 0.1) / 3)
    assert found.logging.value == pytest.approx((0.25 + 0.12 + 0.22) / 3)
    assert found.uniform.value == pytest.approx((0.25 + 0.2 + 0.3) / 3)
    assert found.oracle.value == pytest.approx((0.4 + 0.3 + 0.6) / 3)
    # Over both of SKU 0's requests creative 0 has the mean 0.25 and creative 1 0.2.
    assert found.best_per_sku.value == pytest.approx((0.4 + 0.1 + 0.6) / 3)
    assert found.regret == pytest.approx(0.7 / 3)
    assert found.uplift_share.value == pytest.approx((0.6 - 0.59) / (1.3 - 0.59))
    assert found.best_per_sku_share.value == pytest.approx((1.1 - 0.59) / (1.3 - 0.59))
    assert found.metrics()["oracle_uplift_share"] == found.uplift_share.value
    assert found.metrics()["true_ctr_oracle"] == found.oracle.value
    assert found.requests == 3


def test_the_oracle_has_share_one_and_ties_share() -> None:
    truth = _truth()
    oracle = wv.world_value(truth, truth.click_probability)
    assert (oracle.uplift_share.value, oracle.uplift_share.low, oracle.regret) == pytest.approx((1, 1, 0))
    constant = wv.world_value(truth, np.zeros(7))
    assert constant.policy.value == pytest.approx(constant.uniform.value)
    assert constant.uplift_share.value == pytest.approx(constant.uniform_share.value)


def test_interval_covers_the_share_of_all_requests() -> None:
    rng = np.random.default_rng(0)
    n, k = 200_000, 3
    p = rng.beta(2, 50, (n, k))
    propensity = rng.dirichlet(np.ones(k), n)
    scores = p + rng.normal(0, 0.02, (n, k))
    chosen, logged, best = p[np.arange(n), scores.argmax(1)], (propensity * p).sum(1), p.max(1)
    whole = (chosen - logged).sum() / (best - logged).sum()
    hits = 0
    for part in range(100):
        rows = slice(part * 2000, (part + 1) * 2000)
        truth = wv.RequestTruth(np.arange(0, 6001, 3), p[rows].ravel(), propensity[rows].ravel(), np.arange(2000), np.arange(6000))
        share = wv.world_value(truth, scores[rows].ravel(), resamples=100, seed=part).uplift_share
        hits += share.low <= whole <= share.high
    assert 88 <= hits <= 99


def test_mismatched_scores_and_missing_propensities_are_refused() -> None:
    truth = _truth()
    with pytest.raises(DataError, match="6 scores for 7 candidates"):
        wv.world_value(truth, np.zeros(6))
    unknown = wv.RequestTruth(
        truth.offsets, truth.click_probability, np.where(truth.creatives == 3, np.nan, 0.5), truth.skus, truth.creatives
    )
    with pytest.raises(DataError, match="request 2 has a candidate without propensity"):
        wv.world_value(unknown, np.zeros(7))


def _write_world(folder: Path, seed: int = 0) -> tuple[list[dict], dict[tuple[str, str, str], float]]:
    """Requests over shuffled, partial candidate lists, and a truth table in several row groups with rows nobody asked for."""
    rng = np.random.default_rng(seed)
    truth_rows, known = [], {}
    for user in range(30):
        for sku in range(8):
            creatives = [f"c{sku}_{i}" for i in rng.permutation(2 + sku % 4)]
            chances = rng.random(len(creatives)).astype(np.float32)
            truth_rows.append({"user_id": f"u{user}", "sku_id": f"s{sku}", "creative_ids": creatives, "click_probability": chances})
            known |= {(f"u{user}", f"s{sku}", c): float(p) for c, p in zip(creatives, chances, strict=True)}
    requests = []
    for i in range(200):
        row = truth_rows[rng.integers(0, 160)]
        some = rng.permutation(row["creative_ids"])[: rng.integers(1, len(row["creative_ids"]) + 1)]
        candidates = [{"creative_id": str(c), "propensity": 1 / len(some), "impressions": None, "clicks": None} for c in some]
        requests.append({"request_id": f"r{i}", "user_id": row["user_id"], "sku_id": row["sku_id"], "candidates": candidates})
    schema = pa.schema(
        [("request_id", pa.string()), ("user_id", pa.string()), ("sku_id", pa.string()), ("candidates", pa.list_(CANDIDATE))]
    )
    pq.write_table(pa.Table.from_pylist(requests, schema), folder / "requests.parquet", row_group_size=70)
    truth_schema = pa.schema(
        [
            ("user_id", pa.string()),
            ("sku_id", pa.string()),
            ("creative_ids", pa.list_(pa.string())),
            ("click_probability", pa.list_(pa.float32())),
        ]
    )
    pq.write_table(pa.Table.from_pylist(truth_rows, truth_schema), folder / "truth.parquet", row_group_size=50)
    return requests, known


def test_join_finds_every_candidate_in_request_order(tmp_path: Path) -> None:
    requests, known = _write_world(tmp_path)
    found = wv.load_request_truth(str(tmp_path / "requests.parquet"), str(tmp_path / "truth.parquet"))
    expected = [known[r["user_id"], r["sku_id"], c["creative_id"]] for r in requests for c in r["candidates"]]
    assert found.click_probability == pytest.approx(expected)
    assert np.diff(found.offsets).tolist() == [len(r["candidates"]) for r in requests]
    assert found.propensity == pytest.approx([c["propensity"] for r in requests for c in r["candidates"]])
    sku_of = {}
    for code, request in zip(found.skus, requests, strict=True):
        assert sku_of.setdefault(code, request["sku_id"]) == request["sku_id"]
    assert len(sku_of) == len({r["sku_id"] for r in requests})


def test_a_candidate_without_truth_is_named(tmp_path: Path) -> None:
    requests, _ = _write_world(tmp_path)
    truth = pq.read_table(tmp_path / "truth.parquet").to_pylist()
    lost = requests[17]
    for row in truth:
        if (row["user_id"], row["sku_id"]) == (lost["user_id"], lost["sku_id"]):
            row["creative_ids"] = ["other"] * len(row["creative_ids"])
    pq.write_table(pa.Table.from_pylist(truth), tmp_path / "truth.parquet")
    with pytest.raises(DataError, match=f"no click probability for user {lost['user_id']}, SKU {lost['sku_id']}, creative c"):
        wv.load_request_truth(str(tmp_path / "requests.parquet"), str(tmp_path / "truth.parquet"))
    with pytest.raises(DataError, match="nowhere.parquet cannot be read"):
        wv.load_request_truth(str(tmp_path / "nowhere.parquet"), str(tmp_path / "truth.parquet"))
