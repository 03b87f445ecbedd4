"""What the command line calls for configs of kind `world`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from adray.checks import Check
from adray.config import RunConfig
from adray.errors import ConfigError
from adray.run import Run
from adray.simulation.config import WorldRunConfig, check_truth_size
from adray.simulation.world import simulate_world

CONFIG = WorldRunConfig
WORLD_FOLDER = "world"
"""The world's folder within its run's."""
TABLES = ("products.parquet", "creatives.parquet", "impressions", "requests.parquet", "truth.parquet")


def simulate(config: RunConfig, run: Run) -> None:
    """Simulate the world into `<run folder>/world` and report its counts and true policy values."""
    assert isinstance(config, WorldRunConfig)
    folder = run.folder / WORLD_FOLDER
    summary = simulate_world(config.world, config.seed, folder, run.seconds.__setitem__)
    run.tables += [str(folder / name) for name in TABLES]
    run.log({f"world/{name}": value for name, value in summary["counts"].items()})
    run.log({f"world/value/{name}": value for name, value in summary["policy_values"].items()})
    run.log({f"world/uplift_share/{name}": value for name, value in summary["uplift_share"].items()})
    run.log({"world/mean_ctr": summary["mean_ctr"], "world/exposures_per_creative": summary["exposures_per_creative"]["mean"]})


def checks(config: RunConfig, verb: str) -> Iterable[Check]:
    """Whether the truth table will be of a size that was allowed."""
    assert isinstance(config, WorldRunConfig)
    return _checks(config)


def _checks(config: WorldRunConfig) -> Iterator[Check]:
    world = config.world
    expected = world.skus * sum(world.creatives_per_sku) // 2
    error = None
    try:
        check_truth_size(world, expected)
    except ConfigError as caught:
        error = caught
    users = world.truth_users or world.users
    yield Check("truth table", f"{users:,} users x about {expected:,} creatives; at most {world.truth_limit:,.0f} probabilities", error)
