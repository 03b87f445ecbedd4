"""The first held-out moment, against counting every moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adray.data.time_split import find_cut, split_by_time
from adray.errors import DataError

TIMES = st.lists(st.integers(-(10**4), 10**4) | st.integers(-(10**13), 10**13), min_size=2, max_size=60)


def write(folder: Path, times: list[int | None], parts: int = 1) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for part, values in enumerate(np.array_split(np.array(times, object), parts)):
        table = pa.table({"row": range(len(values)), "timestamp": pa.array(values.tolist(), pa.timestamp("ms", tz="UTC"))})
        files.append(folder / f"part-{part}.parquet")
        pq.write_table(table, files[-1])
    return files


def counted_cut(times: list[int], share: float) -> int:
    """The rule, word by word: the latest whole moments of at most `share` of the rows, else the last moment alone."""
    fitting = [t for t in set(times) if sum(u >= t for u in times) <= share * len(times)]
    return min(fitting) if fitting else max(times)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TIMES, st.floats(0.01, 0.99))
def test_cut_agrees_with_counting(tmp_path: Path, times: list[int], share: float) -> None:
    if len(set(times)) == 1:
        times = [*times, times[0] + 1]
    found = find_cut(write(tmp_path / "t", times), len(times), share)
    expected = counted_cut(times, share)
    # Any cut between two moments separates the same rows.
    assert [t >= found for t in times] == [t >= expected for t in times]


def test_parts_are_moved_or_split_and_rows_keep_their_order(tmp_path: Path) -> None:
    write(tmp_path / "train", list(range(90)), parts=3)
    split = split_by_time(tmp_path / "train", tmp_path / "late", 0.5, 8)
    assert (split.train_rows, split.holdout_rows, split.train_until) == (45, 45, "1970-01-01T00:00:00.044000+00:00")
    assert [p.name for p in sorted((tmp_path / "train").iterdir())] == ["part-0.parquet", "part-1.parquet"]
    assert [p.name for p in sorted((tmp_path / "late").iterdir())] == ["part-1.parquet", "part-2.parquet"]
    assert pq.read_table(tmp_path / "late" / "part-1.parquet")["row"].to_pylist() == list(range(15, 30))
    assert pq.read_table(tmp_path / "train" / "part-1.parquet")["row"].to_pylist() == list(range(15))


def test_one_moment_cannot_be_split(tmp_path: Path) -> None:
    write(tmp_path / "train", [5, 5, 5])
    with pytest.raises(DataError, match="all rows have the same timestamp; set data.holdout to 0"):
        split_by_time(tmp_path / "train", tmp_path / "late", 0.5, 8)
    assert split_by_time(tmp_path / "train", tmp_path / "late", 0.0, 8).train_rows == 3
