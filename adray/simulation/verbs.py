"""What the command line calls for configs of kind `world`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adray.checks import Check
from adray.errors import ConfigError
from adray.run import Run
from adray.simulation.config import WorldRunConfig, check_truth_size
from adray.simulation.plots import calibration_plot, contact_sheet, policy_plot
from adray.simulation.world import FORMAT_VERSION, WORLD_FILE, simulate_world

CONFIG = WorldRunConfig
WORLD_FOLDER = "world"
"""The world's folder within its run's."""
TABLES = ("products.parquet", "creatives.parquet", "impressions", "requests.parquet", "truth.parquet")


def simulate(config: WorldRunConfig, run: Run) -> None:
    """Simulate the world into `<run folder>/world`; report its counts, true policy values and pictures.

    A resumed run keeps a world that is complete and of the same parameters and seed.

    Raises:
        ConfigError: As `simulate_world` does.
    """
    folder = run.folder / WORLD_FOLDER
    summary = _finished(config, folder) if config.resume else None
    if summary is None:
        summary = simulate_world(config.world, config.seed, folder, run.seconds.__setitem__)
    run.tables += [str(folder / name) for name in TABLES]
    for group in ("counts", "exposures_per_creative", "policy_values", "uplift_share"):
        run.log({f"world/{group}/{name}": value for name, value in summary[group].items()})
    run.log({f"world/{name}": summary[name] for name in ("mean_ctr", "expected_ctr", "oracle_uplift")})
    with run.stage("plots"):
        add_pictures(run, folder, summary)


def add_pictures(run: Run, folder: Path, summary: dict[str, Any]) -> None:
    """Put a world's pictures and its table of policies into a run's report.

    Args:
        run: The run that reports.
        folder: The world's folder.
        summary: What its `world.json` holds.
    """
    plots = run.folder / "plots"
    if summary["config"]["images"]:
        run.add_plot("Some of the creatives", contact_sheet(folder / "creatives.parquet", plots / "creatives.png"))
    run.add_plot("True CTR of policies", policy_plot(summary["policy_values"], plots / "policies.png"))
    run.add_plot("Clicks against the truth", calibration_plot(summary["calibration"], plots / "calibration.png"))
    rows = [[name, value, summary["uplift_share"][name]] for name, value in summary["policy_values"].items()]
    note = "The share is of the oracle's gain in true CTR over the logging policy, at the first position."
    run.add_table("Policies", ["policy", "true CTR", "share of the oracle's uplift"], rows, note)


def _finished(config: WorldRunConfig, folder: Path) -> dict[str, Any] | None:
    # A world folder appears only when it is whole, so its summary alone tells.
    if not (folder / WORLD_FILE).is_file():
        return None
    summary: dict[str, Any] = json.loads((folder / WORLD_FILE).read_text(encoding="utf-8"))
    found = summary["format_version"], summary["seed"], summary["config"]
    same = found == (FORMAT_VERSION, config.seed, config.world.model_dump(mode="json"))
    return summary if same else None


def checks(config: WorldRunConfig, verb: str) -> Iterator[Check]:
    """Whether the truth table will be of a size that is allowed."""
    world = config.world
    expected = world.skus * sum(world.creatives_per_sku) // 2
    users = world.truth_users or world.users
    detail = f"{users:,} users x about {expected:,} creatives; at most {world.truth_limit:,.0f} probabilities"
    try:
        check_truth_size(world, expected)
    except ConfigError as error:
        yield Check("truth table", detail, error)
    else:
        yield Check("truth table", detail)
