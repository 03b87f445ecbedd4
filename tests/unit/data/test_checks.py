"""The pre-flight checks of the data."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adray.checks import raise_first
from adray.data.checks import batch_check, data_checks
from adray.data.config import DataConfig


def write_log(path: Path, clicked: list[int], **columns: list) -> str:
    count = len(clicked)
    candidates = [[{"creative_id": "a"}, {"creative_id": "b"}]] * count
    pq.write_table(
        pa.table(
            {
                "request_id": [f"r{i}" for i in range(count)],
                "sku_id": ["s"] * count,
                "candidates": candidates,
                "exposed": [0] * count,
                "clicked": clicked,
                **columns,
            }
        ),
        path,
    )
    return str(path)


def errors(config: DataConfig) -> dict[str, str]:
    return {check.name: str(check.error) for check in data_checks(config) if check.error is not None}


def test_all_well(tmp_path: Path) -> None:
    path = write_log(tmp_path / "t.parquet", [0, 1, 2])
    done = raise_first(data_checks(DataConfig(path=path)))
    assert [check.name for check in done] == ["data readable", "impressions conform"]
    assert "2 of 3 sampled rows usable" in done[1].detail and "r2: clicked is 2" in done[1].detail


def test_what_is_found(tmp_path: Path) -> None:
    assert "does not exist" in errors(DataConfig(path=str(tmp_path / "no.parquet")))["data readable"]
    path = write_log(tmp_path / "t.parquet", [5, 6])
    assert "none of the first 2 rows of impressions can be used" in errors(DataConfig(path=path))["impressions conform"]
    path = write_log(tmp_path / "t.parquet", [0, 1], age=[1, 2])
    assert "column 'age' is not one of table 'impressions'" in errors(DataConfig(path=path))["impressions conform"]
    path = write_log(tmp_path / "t.parquet", [0, 1])
    assert "has no timestamp; set data.holdout to 0" in errors(DataConfig(path=path, holdout=0.1))["time split"]
    found = errors(DataConfig(path=path, embeddings=str(tmp_path / "none")))
    assert found == {"embeddings readable": f"data.embeddings {tmp_path / 'none'} does not exist; check the path"}


def test_batch_arithmetic(tmp_path: Path) -> None:
    config = DataConfig(path="x", lanes=8)
    assert batch_check(config, 64, 8, 2).error is None
    assert "x 4 accumulated" in batch_check(config, 64, 8, 2).detail
    assert "3 workers do not divide data.lanes 8" in str(batch_check(config, 64, 8, 3).error)
