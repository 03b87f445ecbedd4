"""Making a world: draws everything, simulates the log, writes the world folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from adray.files import replacing_folder, sha256, write_json
from adray.simulation.behaviour import Behaviour
from adray.simulation.catalogue import LATE, UNLOGGED, draw_creatives, draw_products
from adray.simulation.clicks import ClickModel, draw_click_model
from adray.simulation.config import WorldConfig, check_truth_size
from adray.simulation.log import Log, Traffic, draw_requests, draw_traffic, simulate_log
from adray.simulation.pictures import render_world
from adray.simulation.population import draw_users
from adray.simulation.tables import ImpressionTables, creatives_table, products_table, write_parquet
from adray.simulation.truth import PolicyValues, policy_values, write_truth

WORLD_FILE = "world.json"
FORMAT_VERSION = 2
"""Raised when the same config and seed give other tables, so that a resumed run makes its world again."""
_STAGES = ("products", "creatives", "users", "clicks", "traffic", "log", "truth", "requests")


def simulate_world(config: WorldConfig, seed: int, folder: Path, on_stage: Callable[[str, float], None] | None = None) -> dict[str, Any]:
    """Simulate a marketplace and write its world folder.

    The folder holds `products.parquet`, `creatives.parquet`, `impressions/part-*.parquet`, `requests.parquet`,
    `truth.parquet` and `world.json`; an existing one is replaced when all is written. The same config and seed give the
    same bytes. Each stage draws from its own generator, so that e.g. the number of requests does not change the log.

    Args:
        config: The world's parameters.
        seed: Seed of every draw.
        folder: Where to write.
        on_stage: Told each stage's name and seconds.

    Returns:
        What `world.json` holds: config, counts, CTRs, true policy values, SHA-256 of the other files.

    Raises:
        ConfigError: If the truth would pass `truth_limit`, or too large a share of creatives is to start cold.
    """
    watch = _Stopwatch(on_stage or (lambda name, seconds: None))
    rng = dict(zip(_STAGES, map(np.random.default_rng, np.random.SeedSequence(seed).spawn(len(_STAGES))), strict=True))
    with watch("draw"):
        model = _draw_model(config, rng)
        check_truth_size(config, len(model.creatives))
        truth_users = np.sort(rng["truth"].permutation(config.users)[: config.truth_users or config.users])
    with watch("log"):
        log = simulate_log(config, model, draw_traffic(config, model, rng["traffic"]), rng["log"])
        requests = draw_requests(config, model, truth_users, rng["requests"])
    with replacing_folder(folder) as partial:
        with watch("write impressions"):
            _write_decisions(config, partial, model, log, requests)
        with watch("write truth"):
            mean_probability = write_truth(partial / "truth.parquet", model, truth_users, log.intercept)
        with watch("images"):
            pictures = render_world(config, model.products, model.creatives) if config.images else (None, None)
        with watch("write catalogue"):
            write_parquet(partial / "products.parquet", [products_table(model.products, pictures[0])])
            write_parquet(partial / "creatives.parquet", [creatives_table(config, model.products, model.creatives, pictures[1])])
        with watch("summarise"):
            values = policy_values(model, log, requests, mean_probability)
            summary = _summary(config, seed, partial, model, log, values)
            write_json(partial / WORLD_FILE, summary)
    return summary


class _Stopwatch:
    def __init__(self, report: Callable[[str, float], None]) -> None:
        self._report = report

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._report(name, time.perf_counter() - start)


def _draw_model(config: WorldConfig, rng: dict[str, np.random.Generator]) -> ClickModel:
    products = draw_products(config, rng["products"])
    creatives = draw_creatives(config, rng["creatives"])
    users = draw_users(config, rng["users"])
    return draw_click_model(config, users, products, creatives, rng["clicks"])


def _write_decisions(config: WorldConfig, folder: Path, model: ClickModel, log: Log, requests: Traffic) -> None:
    tables = ImpressionTables(model, Behaviour(log, model.products, model.creatives, config.blocks))
    (folder / "impressions").mkdir()
    for number, table in enumerate(tables.log_tables(log)):
        write_parquet(folder / "impressions" / f"part-{number:05d}.parquet", [table])
    write_parquet(folder / "requests.parquet", [tables.request_table(requests, log.request_policy)])


def calibration(log: Log, bins: int = 20) -> list[dict[str, float]]:
    """Mean true probability and click rate of the log's rows, in equal bins by true probability."""
    parts = np.array_split(np.argsort(log.probability, kind="stable"), bins)
    return [
        {"expected": float(log.probability[rows].mean()), "observed": float(log.clicked[rows].mean()), "rows": len(rows)}
        for rows in parts
        if len(rows)
    ]


def _summary(config: WorldConfig, seed: int, folder: Path, model: ClickModel, log: Log, values: PolicyValues) -> dict[str, Any]:
    creatives = model.creatives
    logged = creatives.entry < UNLOGGED
    exposures = np.bincount(log.creative, minlength=len(creatives))[logged]
    return {
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "config": config.model_dump(mode="json"),
        "counts": {
            "users": config.users,
            "skus": config.skus,
            "creatives": len(creatives),
            "late_creatives": int((creatives.entry == LATE).sum()),
            "unlogged_creatives": int((creatives.entry == UNLOGGED).sum()),
            "impressions": config.impressions,
            "clicks": int(log.clicked.sum()),
            "requests": config.requests,
        },
        "exposures_per_creative": {
            "mean": float(exposures.mean()),
            **{f"p{q}": float(np.percentile(exposures, q)) for q in (10, 50, 90)},
        },
        "mean_ctr": float(log.clicked.mean()),
        "expected_ctr": float(log.probability.mean()),
        "intercept": log.intercept,
        "calibration": calibration(log),
        "policy_values": asdict(values),
        "oracle_uplift": values.oracle / values.logging - 1.0,
        "uplift_share": {name: values.uplift_share(value) for name, value in asdict(values).items()},
        "files": {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*.parquet"))},
    }
