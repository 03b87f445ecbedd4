"""Worlds drawn once for all tests of the room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adray.simulation.catalogue import draw_creatives, draw_products
from adray.simulation.clicks import ClickModel, draw_click_model
from adray.simulation.config import WorldConfig
from adray.simulation.log import Log, draw_traffic, simulate_log
from adray.simulation.population import draw_users
from adray.simulation.world import simulate_world


@dataclass(frozen=True)
class Logged:
    config: WorldConfig
    model: ClickModel
    log: Log


@dataclass(frozen=True)
class World:
    config: WorldConfig
    folder: Path
    summary: dict[str, Any]


def draw_model(config: WorldConfig, seed: int) -> ClickModel:
    products, creatives, users, clicks = (np.random.default_rng([seed, stage]) for stage in range(4))
    catalogue = draw_products(config, products), draw_creatives(config, creatives)
    return draw_click_model(config, draw_users(config, users), *catalogue, clicks)


def draw_log(config: WorldConfig, seed: int) -> Logged:
    model = draw_model(config, seed)
    traffic = draw_traffic(config, model, np.random.default_rng([seed, 4]))
    return Logged(config, model, simulate_log(config, model, traffic, np.random.default_rng([seed, 5])))


@pytest.fixture(scope="session")
def logged() -> Logged:
    """A log in memory, large enough for statistics."""
    return draw_log(WorldConfig(users=500, skus=40, impressions=200_000, base_ctr=0.08), seed=11)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small world on disk, without images."""
    config = WorldConfig(users=150, skus=25, impressions=6_000, requests=400, base_ctr=0.1, truth_users=60, images=False)
    folder = tmp_path_factory.mktemp("world") / "w"
    return World(config, folder, simulate_world(config, 5, folder))
