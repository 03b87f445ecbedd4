from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from adray.checks import raise_first
from adray.errors import ConfigError
from adray.run import open_run
from adray.simulation import verbs
from adray.simulation.config import WorldConfig, WorldRunConfig

WORLD = WorldConfig(users=100, skus=6, impressions=2000, requests=100, base_ctr=0.1)


def run_config(folder: Path, **changes: object) -> WorldRunConfig:
    values = {"kind": "world", "name": "w", "runs_dir": str(folder), "seed": 3, "world": WORLD} | changes
    return WorldRunConfig.model_validate(values)


def test_simulate_fills_the_report(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    run = open_run(config, owns_folder=True)
    verbs.simulate(config, run)
    assert all(Path(table).exists() for table in run.tables) and len(run.tables) == 5
    assert run.metrics["world/counts/impressions"] == 2000
    assert run.metrics["world/uplift_share/oracle"] == 1.0
    assert run.metrics["world/expected_ctr"] == pytest.approx(0.1, rel=0.05)
    assert {"log", "write truth", "images", "plots"} <= set(run.seconds)
    assert [plot.path.name for plot in run.plots] == ["creatives.png", "policies.png", "calibration.png"]
    with Image.open(run.plots[0].path) as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 20)) > 1000
    assert [row[0] for row in run.report_tables[0].rows] == ["worst", "uniform", "logging", "best_single", "oracle"]


def test_a_resumed_run_keeps_a_finished_world_unless_it_asks_for_another(tmp_path: Path) -> None:
    config = run_config(tmp_path, world=WORLD.model_copy(update={"images": False}))
    verbs.simulate(config, open_run(config, owns_folder=True))
    file = tmp_path / "w" / "world" / "truth.parquet"
    before = file.stat().st_mtime_ns
    resumed = config.model_copy(update={"resume": True})
    verbs.simulate(resumed, open_run(resumed, owns_folder=True))
    assert file.stat().st_mtime_ns == before
    about = json.loads((file.parent / "world.json").read_text())
    (file.parent / "world.json").write_text(json.dumps(about | {"format_version": about["format_version"] - 1}))
    verbs.simulate(resumed, open_run(resumed, owns_folder=True))
    older, before = before, file.stat().st_mtime_ns
    assert before != older
    other = resumed.model_copy(update={"seed": 4})
    verbs.simulate(other, open_run(other, owns_folder=True))
    assert file.stat().st_mtime_ns != before


def test_checks_refuse_a_truth_that_is_too_large(tmp_path: Path) -> None:
    raise_first(verbs.checks(run_config(tmp_path), "simulate"))
    huge = run_config(tmp_path, world=WorldConfig(users=10_000_000, skus=1000))
    with pytest.raises(ConfigError, match="world.truth_users"):
        raise_first(verbs.checks(huge, "simulate"))
