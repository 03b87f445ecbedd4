from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.data.schema import CREATIVES, IMPRESSIONS, PRODUCTS, REQUESTS, TRUTH, TableSchema
from tests.unit.simulation.conftest import World


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("products.parquet", PRODUCTS),
        ("creatives.parquet", CREATIVES),
        ("impressions", IMPRESSIONS),
        ("requests.parquet", REQUESTS),
        ("truth.parquet", TRUTH),
    ],
)
def test_files_have_the_declared_columns_and_types(world: World, file: str, schema: TableSchema) -> None:
    table = pq.read_table(world.folder / file)
    for field in schema.required:
        assert table.schema.field(field.name).type == field.type, field.name
        assert table.column(field.name).null_count == 0
    optional = {field.name: field.type for field in schema.optional}
    for field in table.schema:
        if field.name in optional:
            assert field.type == optional[field.name], field.name
        else:
            assert field.name in schema.required.names or field.name.startswith(schema.feature_prefixes), field.name


def test_features_of_the_log(world: World) -> None:
    table = pq.read_table(world.folder / "impressions")
    features = {name: table.schema.field(name).type for name in table.column_names if name.startswith(("user_", "sku_", "cross_"))}
    text, texts, number = pa.string(), pa.list_(pa.string()), pa.float64()
    assert features == {
        "user_id": text,
        "user_age": text,
        "user_city": text,
        "user_gender": text,
        "user_history": texts,
        "user_clicked_creatives": texts,
        "user_liked_elements": texts,
        "sku_id": text,
        "sku_category": text,
        "sku_brand": text,
        "sku_price": number,
        "cross_category_clicks": number,
    }
    assert len(table) == world.config.impressions
    assert len(set(table.column("request_id").to_pylist())) == len(table)


def test_candidates_are_the_skus_own_creatives_and_exposed_points_into_them(world: World) -> None:
    creatives = pq.read_table(world.folder / "creatives.parquet").to_pylist()
    owner = {row["creative_id"]: row["sku_id"] for row in creatives}
    rows = pq.read_table(world.folder / "impressions").to_pylist()
    for row in rows:
        assert 0 <= row["exposed"] < len(row["candidates"])
        assert row["clicked"] in (0, 1)
        assert {owner[c["creative_id"]] for c in row["candidates"]} == {row["sku_id"]}
        assert sum(c["propensity"] for c in row["candidates"]) == pytest.approx(1.0, abs=1e-5)
        assert row["candidates"][row["exposed"]]["propensity"] > 0
        assert all(c["impressions"] is None and c["clicks"] is None for c in row["candidates"])
    assert sum(row["clicked"] for row in rows) == world.summary["counts"]["clicks"]


def test_creatives_are_offered_from_their_creation_on(world: World) -> None:
    creatives = pq.read_table(world.folder / "creatives.parquet").to_pylist()
    created = {row["creative_id"]: row["created_at"] for row in creatives}
    log = pq.read_table(world.folder / "impressions").to_pylist()
    for row in log:
        assert all(created[c["creative_id"]] <= row["timestamp"] for c in row["candidates"])
    start, end = datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 15, tzinfo=timezone.utc)
    counts = Counter(created.values())
    assert counts[start + 17 / 20 * (end - start)] == world.summary["counts"]["late_creatives"] > 0
    assert counts[end] == world.summary["counts"]["unlogged_creatives"] > 0
    requests = pq.read_table(world.folder / "requests.parquet").to_pylist()
    assert min(row["timestamp"] for row in requests) >= max(row["timestamp"] for row in log)
    logged = {c["creative_id"] for row in log for c in row["candidates"]}
    asked = {c["creative_id"] for row in requests for c in row["candidates"]}
    unseen = asked - logged
    assert 0 < len(unseen) <= world.summary["counts"]["unlogged_creatives"]


def test_liked_elements_are_elements_of_creatives_clicked_before(world: World) -> None:
    elements = {
        row["creative_id"]: [f"{slot}={element}" for slot, element in row["elements"]]
        for row in pq.read_table(world.folder / "creatives.parquet").to_pylist()
    }
    clicked: dict[str, list[tuple[str, str, list[str]]]] = {}
    for row in pq.read_table(world.folder / "impressions").to_pylist():
        if row["clicked"]:
            shown = row["candidates"][row["exposed"]]["creative_id"]
            clicked.setdefault(row["user_id"], []).append((row["sku_id"], shown, elements[shown]))
    for row in pq.read_table(world.folder / "requests.parquet").to_pylist():
        clicks = clicked.get(row["user_id"], [])
        assert row["user_history"] == [sku for sku, _, _ in clicks][-20:]
        assert row["user_clicked_creatives"] == [creative for _, creative, _ in clicks][-20:]
        assert row["user_liked_elements"] == [name for _, _, names in clicks for name in names][-40:]


def test_users_and_products_keep_their_features(world: World) -> None:
    log = pq.read_table(world.folder / "impressions", columns=["user_id", "user_age", "user_city", "user_gender"])
    assert log.group_by(["user_id", "user_age", "user_city", "user_gender"]).aggregate([]).num_rows == len(log.column("user_id").unique())
    products = {row["sku_id"]: row for row in pq.read_table(world.folder / "products.parquet").to_pylist()}
    for row in pq.read_table(world.folder / "requests.parquet").slice(0, 50).to_pylist():
        product = products[row["sku_id"]]
        attributes = dict(product["attributes"])
        assert row["sku_category"] == product["category"]
        assert row["sku_brand"] == attributes["brand"]
        assert f"{row['sku_price']:.0f}" == attributes["price"]
        assert product["title"] == f"{attributes['brand']} {attributes['noun']}"


def test_propensity_is_stored_to_float_precision(world: World) -> None:
    requests = pq.read_table(world.folder / "requests.parquet").column("candidates").to_pylist()
    epsilon = world.config.policy.epsilon
    for candidates in requests[:100]:
        n = len(candidates)
        expected = np.array(sorted([epsilon / n] * (n - 1) + [1 - epsilon + epsilon / n]))
        np.testing.assert_allclose(sorted(c["propensity"] for c in candidates), expected, rtol=1e-6)
