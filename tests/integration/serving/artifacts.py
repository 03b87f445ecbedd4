"""A small real ranker: hand-made tables, a few training steps, the project's own export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from adray.config import validate
from adray.data.schema import CANDIDATE
from adray.ranking.batch import RankingCollate
from adray.ranking.catalogue import build_catalogue
from adray.ranking.config import RankerModelConfig
from adray.ranking.export import export_heavy, export_light
from adray.ranking.joint import JointRanker
from adray.ranking.sku_table import build_sku_table

ROWS = 1200
STEPS = 40
CREATIVES = {f"sku{i}": [f"sku{i}-creative{j}" for j in range(count)] for i, count in enumerate((2, 3, 5, 20, 4, 1))}
USERS = [{}, {"user_age": "18-24", "user_history": ["sku0", "sku3"]}, {"user_age": "65+", "user_history": [], "user_id": "u9"}]
CROSS = "cross_clicks"

MODEL = {
    "heavy": {
        "user": ["user_age"],
        "sku": ["sku_id", "sku_category"],
        "cross": [{"name": CROSS, "kind": "number", "buckets": 4}],
        "dim": 8,
        "history": {"layers": 1, "hidden": 16, "max_length": 5},
        "deep": [16, 8],
    },
    "light": {
        "user": ["user_age"],
        "sku": ["sku_category"],
        "creative": {"dim": 8},
        "hidden": [16, 8],
        "ad_score": {"codes": 64, "dim": 8},
    },
}


@dataclass(frozen=True)
class Ranker:
    """The exported halves and what they know."""

    light: Path
    heavy: Path
    creatives: dict[str, list[str]]
    users: list[dict]


def make_ranker(folder: Path) -> Ranker:
    """Write the tables, train a little, export both halves."""
    torch.manual_seed(0)
    log = impressions(np.random.default_rng(0))
    pq.write_table(log, folder / "impressions.parquet")
    pq.write_table(creatives(), folder / "creatives.parquet")
    config = validate(RankerModelConfig, MODEL, "tests")
    catalogue = build_catalogue(str(folder / "creatives.parquet"), folder / "catalogue")
    skus = build_sku_table(str(folder / "impressions.parquet"), folder / "skus", config)
    model = JointRanker(config, catalogue, skus)
    batch = RankingCollate(catalogue, skus, training=True)(log)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
    export_light(model.eval(), folder / "light")
    export_heavy(model, folder / "heavy")
    return Ranker(folder / "light", folder / "heavy", CREATIVES, USERS)


def impressions(random: np.random.Generator) -> pa.Table:
    """A log in which age and creative decide the click together."""
    skus = random.choice(list(CREATIVES), ROWS)
    ages = random.choice(["18-24", "25-64", "65+"], ROWS)
    exposed = [int(random.integers(len(CREATIVES[sku]))) for sku in skus]
    chance = [0.6 if (age == "18-24") == (shown % 2 == 0) else 0.1 for age, shown in zip(ages, exposed, strict=True)]
    candidates = [
        [{"creative_id": c, "propensity": 1 / len(CREATIVES[s]), "impressions": None, "clicks": None} for c in CREATIVES[s]] for s in skus
    ]
    return pa.table(
        {
            "request_id": [f"r{i}" for i in range(ROWS)],
            "sku_id": skus,
            "candidates": pa.array(candidates, pa.list_(CANDIDATE)),
            "exposed": pa.array(exposed, pa.int32()),
            "clicked": pa.array(random.random(ROWS) < chance).cast(pa.int8()),
            "timestamp": pa.array(np.arange(ROWS), pa.timestamp("ms", tz="UTC")),
            "user_age": ages,
            "user_history": [list(random.choice(list(CREATIVES), random.integers(4))) for _ in range(ROWS)],
            "sku_category": [f"category{int(sku[3:]) % 2}" for sku in skus],
            CROSS: random.poisson(1.0, ROWS).astype(np.float32),
        }
    )


def creatives() -> pa.Table:
    """Creatives told apart by one element."""
    rows = [(sku, creative, place) for sku, names in CREATIVES.items() for place, creative in enumerate(names)]
    return pa.table(
        {
            "creative_id": [creative for _, creative, _ in rows],
            "sku_id": [sku for sku, _, _ in rows],
            "elements": pa.array([[("background", f"b{place % 2}")] for *_, place in rows], pa.map_(pa.string(), pa.string())),
        }
    )
