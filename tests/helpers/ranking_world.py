"""A tiny market written as standard tables: what the ranking tests train, export and serve on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adray.data.schema import CANDIDATE
from adray.ranking.batch import RankingBatch, RankingCollate
from adray.ranking.catalogue import Catalogue, build_catalogue
from adray.ranking.config import RankerModelConfig
from adray.ranking.sku_table import SkuTable, build_sku_table

SKUS, PER_SKU, USERS, CONTENT_DIM = 12, (1, 5), 30, 6
COLOURS, WORDS = ("red", "blue", "green"), ("new", "sale", "warm", "light", "soft", "classic")

MODEL = {
    "heavy": {
        "user": [{"name": "user_id", "rows": 100}, {"name": "user_age", "rows": 20}],
        "sku": [{"name": "sku_id", "rows": 100}, {"name": "sku_price", "kind": "number", "buckets": 8}],
        "cross": [{"name": "cross_category_clicks", "kind": "number", "buckets": 4}],
        "dim": 8,
        "history": {"max_length": 4},
        "deep": [32, 16],
    },
    "light": {
        "user": [{"name": "user_age", "rows": 20}],
        "sku": [{"name": "sku_id", "rows": 100}, {"name": "sku_price", "kind": "number", "buckets": 8}],
        "creative": {"dim": 8, "elements": {"rows": 50, "dim": 8}, "copy_ngrams": {"rows": 200, "dim": 8}, "id": {"rows": 100, "dim": 8}},
        "liked": "user_liked_elements",
        "hidden": [16, 8],
        "ad_score": {"codes": 256, "dim": 16},
    },
    "bias": [{"name": "position", "rows": 20}],
}
CONTENT_MODEL = {
    **MODEL,
    "light": {
        **MODEL["light"],
        "creative": {**MODEL["light"]["creative"], "content": {"dim": 4}, "attributes": {"rows": 20, "dim": 3}},
        "simtier": {"tiers": 5, "max_length": 4},
    },
}
"""A model that reads vectors and attributes, too."""


@dataclass(frozen=True)
class SmallWorld:
    """The tables and what was built of them."""

    creatives: Path
    impressions: Path
    table: pa.Table
    catalogue: Catalogue
    skus: SkuTable
    config: RankerModelConfig

    def batch(self, rows: int | None = None, *, start: int = 0, training: bool = False) -> RankingBatch:
        assert self.config.light is not None
        collate = RankingCollate(self.catalogue, self.skus, training=training, simtier=self.config.light.simtier)
        return collate(self.table.slice(start, rows))


def write_creatives(path: Path, random: np.random.Generator) -> list[list[str]]:
    """Write the creatives; returns each SKU's creative ids."""
    rows, owned = [], []
    for sku in range(SKUS):
        ids = [f"c{sku}-{i}" for i in range(random.integers(PER_SKU[0], PER_SKU[1] + 1))]
        owned.append(ids)
        for one in ids:
            words = random.choice(WORDS, size=3, replace=False)
            elements = [("colour", str(random.choice(COLOURS))), ("badge", str(random.integers(3)))]
            rows.append({"creative_id": one, "sku_id": f"s{sku}", "copy": " ".join(words), "elements": elements})
    schema = pa.schema(
        [("creative_id", pa.string()), ("sku_id", pa.string()), ("copy", pa.string()), ("elements", pa.map_(pa.string(), pa.string()))]
    )
    order = random.permutation(len(rows))
    pq.write_table(pa.Table.from_pylist([rows[i] for i in order], schema), path, row_group_size=7)
    return owned


def write_content(creatives: Path, embeddings: Path, attributes: Path, random: np.random.Generator) -> None:
    """Write vectors of two in three creatives and attributes of all, each in an order of its own."""
    ids = pq.read_table(creatives, columns=["creative_id"]).column("creative_id").to_pylist()
    some = [ids[i] for i in random.permutation(len(ids))[: 2 * len(ids) // 3]]
    vectors = [row.astype(np.float16) for row in random.normal(size=(len(some), CONTENT_DIM))]
    columns = {"creative_id": some, "encoder": ["e"] * len(some), "vector": pa.array(vectors, pa.list_(pa.float16()))}
    pq.write_table(pa.table(columns), embeddings)
    tokens = [[f"style={random.integers(3)}"] * int(i % 3 > 0) for i in range(len(ids))]
    pq.write_table(pa.table({"creative_id": ids[::-1], "tokens": pa.array(tokens, pa.list_(pa.string()))}), attributes)


def impression_rows(owned: list[list[str]], count: int, random: np.random.Generator) -> pa.Table:
    """Impressions with clicks at random; SKU features never change."""
    rows = []
    # One that the catalogue lacks is clicked now and then. Drawn apart, so that other columns stay as they are.
    clicks, creatives = np.random.default_rng(1), [one for ids in owned for one in ids] + ["gone"]
    for i in range(count):
        sku = int(random.integers(SKUS))
        candidates = [{"creative_id": c, "propensity": 1 / len(owned[sku])} for c in owned[sku]]
        rows.append(
            {
                "request_id": f"r{i}",
                "sku_id": f"s{sku}",
                "candidates": candidates,
                "user_id": f"u{random.integers(USERS)}",
                "position": int(random.integers(3)),
                "exposed": int(random.integers(len(candidates))),
                "clicked": int(random.random() < 0.2),
                "timestamp": i,
                "user_age": str(random.choice(["young", "old"])),
                "user_history": [f"s{random.integers(SKUS)}" for _ in range(random.integers(7))],
                "user_clicked_creatives": [str(clicks.choice(creatives)) for _ in range(clicks.integers(7))],
                "user_liked_elements": [f"colour={random.choice(COLOURS)}" for _ in range(random.integers(4))],
                "sku_price": float(10 + sku),
                "cross_category_clicks": None if random.random() < 0.2 else float(random.integers(5)),
            }
        )
    fields = [
        ("request_id", pa.string()),
        ("sku_id", pa.string()),
        ("candidates", pa.list_(CANDIDATE)),
        ("user_id", pa.string()),
        ("position", pa.int32()),
        ("exposed", pa.int32()),
        ("clicked", pa.int8()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("user_age", pa.string()),
        ("user_history", pa.list_(pa.string())),
        ("user_clicked_creatives", pa.list_(pa.string())),
        ("user_liked_elements", pa.list_(pa.string())),
        ("sku_price", pa.float32()),
        ("cross_category_clicks", pa.float32()),
    ]
    return pa.Table.from_pylist(rows, pa.schema(fields))


def make_small_world(folder: Path, rows: int = 200, seed: int = 0, model: dict | None = None, *, content: bool = False) -> SmallWorld:
    """Write tables into `folder` and build the catalogue and the SKU table; with `content`, from vectors and attributes too."""
    random = np.random.default_rng(seed)
    creatives, impressions = folder / "creatives.parquet", folder / "impressions.parquet"
    owned = write_creatives(creatives, random)
    table = impression_rows(owned, rows, random)
    pq.write_table(table, impressions, row_group_size=64)
    config = RankerModelConfig.model_validate(model or MODEL)
    beside = [folder / f"{name}.parquet" for name in ("embeddings", "attributes")] if content else []
    if beside:
        write_content(creatives, *beside, np.random.default_rng(2))
    catalogue = build_catalogue(str(creatives), folder / "catalogue", *map(str, beside))
    return SmallWorld(creatives, impressions, table, catalogue, build_sku_table(str(impressions), folder / "skus", config), config)
