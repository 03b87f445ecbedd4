from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from adray.simulation.config import WorldConfig
from adray.simulation.world import simulate_world

SMALL = WorldConfig(users=200, skus=20, impressions=4000, requests=300, base_ctr=0.08, images=False)


def file_hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_world(SMALL, seed, tmp_path / name)
    first, again, other = (file_hashes(tmp_path / name) for name in "abc")
    assert first == again
    assert set(first) == {
        "products.parquet",
        "creatives.parquet",
        "impressions/part-00000.parquet",
        "requests.parquet",
        "truth.parquet",
        "world.json",
    }
    assert all(first[name] != other[name] for name in first)


def test_summary_names_the_hash_of_every_table(tmp_path: Path) -> None:
    summary = simulate_world(SMALL, 1, tmp_path / "w")
    hashes = file_hashes(tmp_path / "w")
    del hashes["world.json"]
    assert summary["files"] == hashes


@pytest.mark.parametrize("base_ctr", [0.02, 0.1])
def test_expected_ctr_of_the_log_is_the_configured_one(tmp_path: Path, base_ctr: float) -> None:
    config = SMALL.model_copy(update={"base_ctr": base_ctr, "impressions": 20_000})
    summary = simulate_world(config, 3, tmp_path / "w")
    assert summary["expected_ctr"] == pytest.approx(base_ctr, rel=0.02)
    deviation = (base_ctr * (1 - base_ctr) / config.impressions) ** 0.5
    assert abs(summary["mean_ctr"] - base_ctr) < 4 * deviation + 0.02 * base_ctr
