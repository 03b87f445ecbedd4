"""Peak memory of ingesting and streaming a table, against a table ten times as large.

    python tests/benchmarks/streaming_memory.py [--rows 200000] [--factor 10]

Each size runs in a process of its own with a Ray instance of its own. Memory is the proportional set size (shared pages, such
as the object store's, are counted once) of that process and all its children but Ray's services, whose memory does not belong to the data.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray

LIMIT = 1.3
_SERVICES = ("raylet", "gcs_server", "log_monitor", "monitor.py", "dashboard", "agent")


def write_log(path: Path, rows: int) -> None:
    """A log of `rows` impressions with 5 candidates and a history of up to 10, written in pieces."""
    random = np.random.default_rng(0)
    path.mkdir(parents=True)
    writer = None
    for part, start in enumerate(range(0, rows, 100_000)):
        count = min(100_000, rows - start)
        sku = random.integers(0, 2000, count)
        creative = (sku[:, None] * 5 + np.arange(5)).ravel()
        items = pa.StructArray.from_arrays(
            [_names("c", creative), pa.array(np.full(5 * count, 0.2, np.float32))], names=["creative_id", "propensity"]
        )
        length = random.integers(0, 11, count)
        history = random.integers(0, 2000, length.sum())
        table = pa.table(
            {
                "request_id": _names("r", np.arange(start, start + count)),
                "user_id": _names("u", random.integers(0, rows // 20, count)),
                "sku_id": _names("s", sku),
                "candidates": pa.ListArray.from_arrays(pa.array(np.arange(0, 5 * count + 1, 5), pa.int32()), items),
                "exposed": pa.array(random.integers(0, 5, count), pa.int32()),
                "clicked": pa.array(random.random(count) < 0.1).cast(pa.int8()),
                "timestamp": pa.array(1_700_000_000_000 + 1000 * np.arange(start, start + count), pa.timestamp("ms", tz="UTC")),
                "user_history": pa.ListArray.from_arrays(
                    pa.array(np.concatenate([[0], np.cumsum(length)]), pa.int32()), _names("s", history)
                ),
                "sku_price": pa.array(random.random(count).astype(np.float32)),
            }
        )
        writer = pq.ParquetWriter(path / f"part-{part:04d}.parquet", table.schema)
        writer.write_table(table, row_group_size=50_000)
        writer.close()


def _names(letter: str, numbers: np.ndarray) -> pa.Array:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(letter, pa.array(numbers).cast(pa.string()), "")


class PeakMemory:
    """Samples this process and its children until the block ends; `bytes` is the greatest sum seen."""

    def __enter__(self) -> PeakMemory:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.1):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    if not any(service in " ".join(process.cmdline()[:3]) for service in _SERVICES):
                        total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.bytes = max(self.bytes, total)


@ray.remote
def _nothing() -> None:
    """Makes Ray start its workers."""


def measure(rows: int) -> dict[str, float]:
    """Ingest a log of `rows` and stream one epoch of it, in this process."""
    from adray.data.batch_from_arrow import impressions_to_batch
    from adray.data.config import DataConfig
    from adray.data.ingest import ingest
    from adray.data.stream import TableStream
    from adray.ray_session import use_ray

    with tempfile.TemporaryDirectory() as folder:
        # In another process: making the log must not raise this one's peak.
        subprocess.run([sys.executable, __file__, "--write", folder, "--rows", str(rows)], check=True)
        use_ray(2)
        with PeakMemory() as idle:
            ray.get([_nothing.remote() for _ in range(4)])
            time.sleep(1.0)  # Long enough for ten samples; no condition is waited for.
        with PeakMemory() as ingesting:
            start = time.perf_counter()
            tables = ingest(DataConfig(path=f"{folder}/log", holdout=0.1), f"{folder}/tables")
            ingest_seconds = time.perf_counter() - start
        stream = TableStream(tables.train, seed=0, batch_size=1024, micro_batch_size=1024, collate=impressions_to_batch)
        with PeakMemory() as streaming:
            start = time.perf_counter()
            seen = sum(len(batch) for batch in stream.batches(0, 0, 0, 1))
            stream_seconds = time.perf_counter() - start
        return {
            "rows": rows,
            "table_mb": sum(p.stat().st_size for p in Path(folder, "log").glob("*")) / 2**20,
            "idle_mb": idle.bytes / 2**20,
            "ingest_peak_mb": ingesting.bytes / 2**20,
            "stream_peak_mb": streaming.bytes / 2**20,
            "ingest_rows_per_s": rows / ingest_seconds,
            "stream_rows_per_s": seen / stream_seconds,
        }


def main() -> int:
    """Measure both sizes and print one table; fails when the peak grows by more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--factor", type=int, default=10)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_log(Path(options.write) / "log", options.rows)
        return 0
    if options.one:
        print(json.dumps(measure(options.rows)))
        return 0
    results = []
    for rows in (options.rows, options.rows * options.factor):
        done = subprocess.run([sys.executable, __file__, "--one", "--rows", str(rows)], check=True, stdout=subprocess.PIPE, text=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{'':20}{results[0]['rows']:>14,}{results[1]['rows']:>14,}{'ratio':>8}")
    for name in list(results[0])[1:]:
        small, large = results[0][name], results[1][name]
        print(f"{name:20}{small:>14,.0f}{large:>14,.0f}{large / small:>8.2f}")
    ratio = max(results[1]["ingest_peak_mb"], results[1]["stream_peak_mb"]) / max(
        results[0]["ingest_peak_mb"], results[0]["stream_peak_mb"]
    )
    print(f"peak grows {ratio:.2f} times (limit {LIMIT})")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
