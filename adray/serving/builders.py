"""The applications under the names that a Serve config file can give, for Serve that is deployed to and not started by us.

KubeRay's RayService is such: it sends a Serve config whose `import_path`s name these functions. Each reads the same
`kind: serve` file that `launch.py serve` does, so that replicas, queues and keys are said in one place.
"""

from __future__ import annotations

from typing import Any

from ray.serve import Application

from adray.config import Config, PathStr, apply_overrides, read_yaml, validate
from adray.serving import exposure
from adray.serving.app import FRONT, HEAVY, LIGHT, targets
from adray.serving.config import ServeRunConfig


class BuilderArgs(Config):
    """The `args` of an application in a Serve config."""

    config: PathStr
    """The `kind: serve` file, as every node sees it."""
    set: list[str] = []
    """Overrides of its fields, as given to `--set`."""


def creatives(args: dict[str, Any]) -> Application:
    """The light half: orders the creatives of SKUs."""
    return _application(args, LIGHT[1])


def user_sku(args: dict[str, Any]) -> Application:
    """The heavy half: scores ads."""
    return _application(args, HEAVY[1])


def ads(args: dict[str, Any]) -> Application:
    """The front of both halves."""
    return _application(args, FRONT[1])


def _application(args: dict[str, Any], name: str) -> Application:
    given = validate(BuilderArgs, args, f"args of application {name}")
    config = validate(ServeRunConfig, apply_overrides(read_yaml(given.config), given.set), given.config)
    found = {target.name: target.target for target in targets(config, exposure.key_hash(config.http))}
    return found[name]
