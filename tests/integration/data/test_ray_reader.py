"""Ray Data tasks give the same batches as the inline reader."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from adray.data.batch_from_arrow import impressions_to_batch
from adray.data.schema import CANDIDATE
from adray.data.stream import TableStream
from adray.errors import DataError

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream")
    for part in range(2):
        rows = range(part * 300, part * 300 + 300)
        table = pa.table(
            {
                "request_id": [f"r{i}" for i in rows],
                "candidates": pa.array([[{"creative_id": f"c{i}-{j}"} for j in range(i % 4)] for i in rows], pa.list_(CANDIDATE)),
                "user_history": [[f"s{j}" for j in range(i % 3)] for i in rows],
                "sku_price": [float(i) for i in rows],
            }
        )
        pq.write_table(table, path / f"part-{part}.parquet", row_group_size=50)
    return path


def stream(folder: Path, reader: str, **changes: object) -> TableStream:
    settings: dict = {"seed": 1, "batch_size": 32, "micro_batch_size": 8, "lanes": 4, "shuffle_rows": 128, "collate": impressions_to_batch}
    return TableStream(str(folder), reader=reader, **(settings | changes))


def tensors(source: TableStream, first_step: int, rank: int) -> list[tuple[list, ...]]:
    return [
        (
            b.candidates.values.tolist(),
            b.candidates.offsets.tolist(),
            b.numbers["sku_price"].tolist(),
            b.bags["user_history"].values.tolist(),
        )
        for b in source.batches(1, first_step, rank, 2)
    ]


@pytest.mark.parametrize(("first_step", "rank"), [(0, 0), (6, 1)])
def test_same_batches_as_inline(folder: Path, first_step: int, rank: int) -> None:
    inline = tensors(stream(folder, "inline"), first_step, rank)
    assert len(inline) > 20
    assert tensors(stream(folder, "ray"), first_step, rank) == inline


def test_prepare_runs_in_other_processes(folder: Path) -> None:
    def with_process(table: pa.Table) -> pa.Table:
        return table.append_column("process", pa.array([os.getpid()] * table.num_rows))

    source = stream(folder, "ray", prepare=with_process, collate=lambda t: set(t.column("process").to_pylist()))
    processes = set().union(*source.batches(0, 0, 0, 1))
    assert processes and os.getpid() not in processes


def test_an_error_in_a_task_is_the_users_one_line(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(stream(folder, "ray", prepare=lambda t: t.slice(1)).batches(0, 0, 0, 1))
    assert type(caught.value) is DataError
    assert str(caught.value).startswith("prepare made 7 rows of 8;")


def test_works_inside_a_worker_and_stops_early(folder: Path) -> None:
    @ray.remote(num_cpus=1)
    def first_rows() -> list[float]:
        batches = stream(folder, "ray").batches(1, 0, 0, 2)
        first = next(batches).numbers["sku_price"].tolist()
        batches.close()
        return first

    expected = next(stream(folder, "inline").batches(1, 0, 0, 2)).numbers["sku_price"].tolist()
    assert ray.get(first_rows.remote(), timeout=60) == expected
