"""Real logs through their adapters: the counts that are known of them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from adray.data.config import DataConfig
from adray.data.ingest import ingest
from adray.data.tables import Tables

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.realdata]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def arms() -> Path:
    path = Path(os.environ.get("ADRAY_DATA", ROOT.parent / "shared" / "data")) / "upworthy" / "arms.parquet"
    if not path.is_file():
        pytest.skip(f"no Upworthy archive at {path}; set ADRAY_DATA")
    return path


@pytest.fixture(scope="session")
def obd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the Open Bandit sample: `ADRAY_OBP/obd`, or unpacked from the package that carries it."""
    if "ADRAY_OBP" in os.environ:
        return Path(os.environ["ADRAY_OBP"]) / "obd"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "adray" / "obp-0.4.1"
    if not any(cache.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), "obp==0.4.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            pytest.skip(f"package obp cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    folder = tmp_path_factory.mktemp("obp")
    with zipfile.ZipFile(next(cache.glob("*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.endswith(".csv")])
    return folder / "obp" / "dataset" / "obd"


def counts(tables: Tables) -> tuple[int, int]:
    rows = pq.read_table(tables.train)
    return rows.num_rows, int(pc.sum(pc.cast(rows["clicked"], "int64")).as_py())


@pytest.mark.parametrize(
    ("policy", "campaign", "items", "clicks"),
    [
        ("random", "all", 80, 38),
        ("random", "men", 34, 46),
        ("random", "women", 46, 46),
        ("bts", "all", 80, 42),
        ("bts", "men", 34, 69),
        ("bts", "women", 46, 46),
    ],
)
def test_open_bandit(obd: Path, tmp_path: Path, policy: str, campaign: str, items: int, clicks: int) -> None:
    tables = ingest(DataConfig(path=str(obd / policy / campaign), adapter="open_bandit"), tmp_path / "t")
    assert counts(tables) == (10_000, clicks)
    assert tables.rows["creatives"] == items and tables.quarantined == {"creatives": 0, "impressions": 0}
    rows = pq.read_table(tables.train, columns=["candidates", "exposed", "position"])
    assert set(pc.list_value_length(rows["candidates"]).to_pylist()) == {items}
    assert set(rows["position"].to_pylist()) == {0, 1, 2}
    flat = rows["candidates"].combine_chunks().flatten()
    propensity = pc.struct_field(flat, "propensity").to_numpy(zero_copy_only=False).reshape(-1, items)
    exposed = rows["exposed"].to_numpy()
    logged = propensity[np.arange(10_000), exposed]
    assert np.isnan(propensity).sum() == 10_000 * (items - 1)
    # The CSV's own numbers, read independently of the adapter.
    import csv

    with (obd / policy / campaign / f"{campaign}.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert np.array_equal(logged.astype(np.float32), np.array([float(line["propensity_score"]) for line in lines], np.float32))
    ids = np.array(pc.struct_field(flat, "creative_id").to_pylist()).reshape(-1, items)
    assert ids[np.arange(10_000), exposed].tolist() == [f"{campaign}-{line['item_id']}" for line in lines]
    if policy == "random":
        assert np.allclose(logged, 1 / items, rtol=1e-6)


def test_upworthy_whole(arms: Path, tmp_path: Path) -> None:
    tables = ingest(DataConfig(path=str(arms), adapter="upworthy", drop_weeks=[]), tmp_path / "t")
    rows = pq.read_table(tables.train)
    flat = rows["candidates"].combine_chunks().flatten()
    assert (rows.num_rows, len(flat), tables.rows["creatives"]) == (3_830, 17_528, 17_528)
    source = pq.read_table(arms)
    for count in ("impressions", "clicks"):
        assert pc.sum(pc.struct_field(flat, count)).as_py() == pc.sum(source[count]).as_py()
    assert tables.quarantined == {"creatives": 0, "impressions": 0}


def test_upworthy_split_by_week(arms: Path, tmp_path: Path) -> None:
    """The known comparison: 268 pairs of arms with different headlines and |z| > 2.58 in the held-out weeks."""
    config = DataConfig(path=str(arms), adapter="upworthy", holdout=0.13)
    tables = ingest(config, tmp_path / "t")
    assert tables.holdout is not None and tables.train_until is not None
    train, late = pq.read_table(tables.train), pq.read_table(tables.holdout)
    assert pc.max(train["timestamp"]).as_py() < pc.min(late["timestamp"]).as_py()
    assert not set(train["request_id"].to_pylist()) & set(late["request_id"].to_pylist())
    creatives = pq.read_table(tables.creatives, columns=["creative_id", "copy"])
    copy = dict(zip(creatives["creative_id"].to_pylist(), creatives["copy"].to_pylist(), strict=True))
    pairs = longer = 0
    for candidates in late["candidates"].to_pylist():
        for i, a in enumerate(candidates):
            for b in candidates[:i]:
                z = z_score(a, b)
                if abs(z) > 2.58 and copy[a["creative_id"]] != copy[b["creative_id"]]:
                    pairs += 1
                    longer += (len(copy[a["creative_id"]]) > len(copy[b["creative_id"]])) == (z > 0)
    assert pairs == 268
    assert longer / pairs == pytest.approx(0.59, abs=0.02)


def z_score(a: dict, b: dict) -> float:
    """Two-proportion z statistic with the pooled rate."""
    pooled = (a["clicks"] + b["clicks"]) / (a["impressions"] + b["impressions"])
    spread = (pooled * (1 - pooled) * (1 / a["impressions"] + 1 / b["impressions"])) ** 0.5
    return (a["clicks"] / a["impressions"] - b["clicks"] / b["impressions"]) / spread if spread else 0.0
