from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adray.config import read_yaml, validate
from adray.errors import ConfigError
from adray.simulation.config import WorldConfig, WorldRunConfig, check_truth_size

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"creatives_per_sku": [1, 5]}, ["creatives_per_sku", "[1, 5]", "2 <= least"]),
        ({"creatives_per_sku": [6, 5]}, ["creatives_per_sku", "[6, 5]"]),
        ({"examination": [0.9, 0.5]}, ["examination", "start with 1.0"]),
        ({"examination": [1.0, 0.0]}, ["examination", "(0, 1]"]),
        ({"examination": [1.0, 0.2], "base_ctr": 0.6}, ["base_ctr is 0.6", "0.600"]),
        ({"blocks": 4, "policy": {"warm_up_blocks": 4}}, ["policy.warm_up_blocks is 4", "blocks (4)"]),
        ({"impressions": 10}, ["impressions is 10", "blocks (20)"]),
        ({"users": 10, "truth_users": 11}, ["truth_users is 11", "users (10)"]),
        ({"polcy": {}}, ["'world.polcy'", "did you mean 'policy'"]),
        ({"policy": {"epsilon": 0}}, ["world.policy.epsilon", "greater than 0"]),
    ],
)
def test_a_wrong_field_is_named_in_one_line(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(WorldRunConfig, {"kind": "world", "name": "w", "world": values}, "w.yaml")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_too_large_a_truth_is_refused_with_its_size_and_a_cure_that_works() -> None:
    config = WorldConfig(users=1_000_000, skus=1000)
    with pytest.raises(ConfigError, match=r"1,000,000 users x 6,000 creatives is 6,000,000,000.*at most 33333"):
        check_truth_size(config, 6000)
    assert check_truth_size(config.model_copy(update={"truth_users": 33_333}), 6000) == 199_998_000
    with pytest.raises(ConfigError):
        check_truth_size(config.model_copy(update={"truth_users": 33_334}), 6000)


@pytest.mark.parametrize("name", ["world.yaml", "world-sparse.yaml"])
def test_shipped_configs_are_valid_and_affordable(name: str) -> None:
    config = validate(WorldRunConfig, read_yaml(CONFIGS / name), name)
    assert check_truth_size(config.world, config.world.skus * 6) <= config.world.truth_limit
