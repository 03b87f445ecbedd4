"""A click log whose truth is known: 26 categorical fields, Zipf-distributed ids, a logistic model with pairwise interactions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIELDS = [f"user_c{i:02d}" for i in range(13)] + [f"sku_c{i:02d}" for i in range(13)]
IDS = 10_000
"""Ids of each field, 1 .. IDS."""
_FACTORS = 4
_ZIPF = 1.2
_BASE_RATE = 0.25


def write(folder: Path, train_rows: int, test_rows: int, seed: int = 7) -> None:
    """Write `train.parquet` and `test.parquet` in the form of the impressions table; the same arguments give the same rows.

    Each row has the same single candidate, which was exposed; `truth` is the true click probability, which no contestant reads.
    `creatives.parquet` holds that candidate.

    Args:
        folder: Where the files go.
        train_rows: Rows of the training part.
        test_rows: Rows of the test part.
        seed: Seed of ids, weights and clicks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"creative_id": ["only"], "sku_id": ["any"]}), folder / "creatives.parquet")
    rng = np.random.default_rng(seed)
    linear = rng.normal(0, 0.4, (len(FIELDS), IDS))
    factors = rng.normal(0, 0.5, (len(FIELDS), IDS, _FACTORS)).astype(np.float32)
    pairs = [tuple(pair) for pair in rng.permuted(np.stack(np.triu_indices(len(FIELDS), 1)).T, axis=0)[:24]]
    chance = 1 / np.arange(1, IDS + 1) ** _ZIPF
    chance /= chance.sum()

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        ids = rng.choice(IDS, size=(rows, len(FIELDS)), p=chance)
        logit = linear[np.arange(len(FIELDS)), ids].sum(1)
        for a, b in pairs:
            logit += (factors[a, ids[:, a]] * factors[b, ids[:, b]]).sum(1)
        return ids, logit

    intercept = -np.quantile(draw(50_000)[1], 1 - _BASE_RATE)
    for name, rows in (("train", train_rows), ("test", test_rows)):
        ids, logit = draw(rows)
        probability = 1 / (1 + np.exp(-(logit + intercept)))
        _write_part(folder / f"{name}.parquet", ids, probability, rng.random(rows) < probability)


def _write_part(path: Path, ids: np.ndarray, probability: np.ndarray, clicked: np.ndarray) -> None:
    rows = clicked.size
    columns = {name: pa.array(ids[:, i] + 1, pa.int32()) for i, name in enumerate(FIELDS)}
    number = np.arange(rows).astype(str)
    creative = pa.StructArray.from_arrays([pa.array(["only"]).take(pa.array(np.zeros(rows, np.int64)))], ["creative_id"])
    columns |= {
        "request_id": pa.array(number),
        "sku_id": columns[FIELDS[-1]].cast(pa.string()),
        "candidates": pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), creative),
        "timestamp": pa.array(np.arange(rows, dtype=np.int64) * 1000).cast(pa.timestamp("ms", tz="UTC")),
        "exposed": pa.array(np.zeros(rows, np.int32)),
        "clicked": pa.array(clicked.astype(np.int8)),
        "truth": pa.array(probability.astype(np.float32)),
    }
    pq.write_table(pa.table(columns), path, row_group_size=8192)


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Feature ids int64 `[rows, fields]` and clicks float32 `[rows]`, for contestants that hold everything in memory."""
    table = pq.read_table(path, columns=[*FIELDS, "clicked"])
    features = np.stack([table[name].to_numpy() for name in FIELDS], axis=1).astype(np.int64)
    return features, table["clicked"].to_numpy().astype(np.float32)
