from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from adray.data.schema import IMAGE
from adray.errors import ConfigError
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


def test_calibration_bins_add_up_to_the_ctrs(tmp_path: Path) -> None:
    summary = simulate_world(SMALL, 1, tmp_path / "w")
    bins = summary["calibration"]
    assert sum(b["rows"] for b in bins) == SMALL.impressions
    for name, ctr in (("expected", "expected_ctr"), ("observed", "mean_ctr")):
        assert sum(b[name] * b["rows"] for b in bins) / SMALL.impressions == pytest.approx(summary[ctr])
    expected = [b["expected"] for b in bins]
    assert expected == sorted(expected) and expected[-1] > 5 * expected[0]


@pytest.mark.parametrize("base_ctr", [0.02, 0.1])
def test_expected_ctr_of_the_log_is_the_configured_one(tmp_path: Path, base_ctr: float) -> None:
    config = SMALL.model_copy(update={"base_ctr": base_ctr, "impressions": 20_000})
    summary = simulate_world(config, 3, tmp_path / "w")
    assert summary["expected_ctr"] == pytest.approx(base_ctr, rel=0.02)
    deviation = (base_ctr * (1 - base_ctr) / config.impressions) ** 0.5
    assert abs(summary["mean_ctr"] - base_ctr) < 4 * deviation + 0.02 * base_ctr


def test_images_do_not_change_anything_else(tmp_path: Path) -> None:
    simulate_world(SMALL, 1, tmp_path / "plain")
    simulate_world(SMALL.model_copy(update={"images": True}), 1, tmp_path / "images")
    plain, images = file_hashes(tmp_path / "plain"), file_hashes(tmp_path / "images")
    changed = {name for name in plain if plain[name] != images[name]}
    assert changed == {"products.parquet", "creatives.parquet", "world.json"}


def test_number_of_requests_does_not_change_the_log(tmp_path: Path) -> None:
    first = simulate_world(SMALL, 1, tmp_path / "a")["files"]
    second = simulate_world(SMALL.model_copy(update={"requests": 50}), 1, tmp_path / "b")["files"]
    assert {name for name in first if first[name] != second[name]} == {"requests.parquet"}


def test_bytes_do_not_depend_on_processes_or_threads(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"images": True, "skus": 36, "creatives_per_sku": (2, 4)})
    expected = simulate_world(config, 1, tmp_path / "one")["files"]
    code = (
        "import sys, pathlib, pyarrow\n"
        "from adray.simulation.config import WorldConfig\n"
        "from adray.simulation.world import simulate_world\n"
        "if __name__ == '__main__':\n"
        "    pyarrow.set_cpu_count(4)\n"
        "    config = WorldConfig.model_validate_json(sys.argv[1])\n"
        "    simulate_world(config, 1, pathlib.Path(sys.argv[2]))\n"
    )
    script = tmp_path / "simulate.py"
    script.write_text(code)
    parallel = config.model_copy(update={"image_workers": 2}).model_dump_json()
    threads = {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, str(script), parallel, str(tmp_path / "many")], check=True, env={**os.environ, **threads})
    found = file_hashes(tmp_path / "many")
    assert {name: found[name] for name in expected} == expected


def test_pictures_are_in_the_tables(tmp_path: Path) -> None:
    simulate_world(SMALL.model_copy(update={"images": True, "image_size": 64, "image_format": "webp"}), 1, tmp_path / "w")
    for file, column, form, mode in (("products.parquet", "cutout", "PNG", "RGBA"), ("creatives.parquet", "image", "WEBP", "RGB")):
        table = pq.read_table(tmp_path / "w" / file)
        assert table.schema.field(column).type == IMAGE
        for value in table.column(column).to_pylist():
            with Image.open(io.BytesIO(value["bytes"])) as picture:
                assert (picture.format, picture.mode, picture.size) == (form, mode, (64, 64))


def test_a_failure_leaves_the_old_world_in_place(tmp_path: Path) -> None:
    before = simulate_world(SMALL, 1, tmp_path / "w")["files"]
    with pytest.raises(ConfigError, match="truth_limit"):
        simulate_world(SMALL.model_copy(update={"truth_limit": 10.0}), 2, tmp_path / "w")
    after = file_hashes(tmp_path / "w")
    assert {name: after[name] for name in before} == before
    assert [p.name for p in tmp_path.iterdir()] == ["w"]
