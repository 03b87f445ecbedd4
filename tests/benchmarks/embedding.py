"""The embedding job against a bare loop: same encoder, same batch, same rows, same threads, in turn.

    python tests/benchmarks/embedding.py [--rounds 3] [--rows 256] [--batch 32] [--workers 0] [--clock wall]

Bar: job rows/s >= 0.9 of the loop's. The loop decodes with Pillow, calls the encoder and keeps the vectors in memory; the job
also checks rows, keeps provenance, writes and records. Both start with the encoder loaded and have seen one batch.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from adray.data.schema import IMAGE  # noqa: E402
from adray.representation.creatives import Creatives  # noqa: E402
from adray.representation.embedding.config import EmbeddingRunConfig  # noqa: E402
from adray.representation.embedding.job import embed_table, prepare_encoder  # noqa: E402
from adray.representation.encoders.base import Encoder  # noqa: E402

BAR = 0.9
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def creatives(rows: int, side: int = 400) -> pa.Table:
    """Pictures of a shop's usual size: smooth colours with some structure, as JPEG."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(rows):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        stream = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=88)
        images.append({"bytes": stream.getvalue(), "path": None})
    names = [f"c{i}" for i in range(rows)]
    copies = [f"Autumn sale on item {i}: 20 percent off, free delivery" for i in range(rows)]
    return pa.table({"creative_id": names, "sku_id": names, "image": pa.array(images, IMAGE), "copy": copies})


def bare_loop(encoder: Encoder, path: Path, batch: int, clock: Callable[[], float]) -> float:
    """Rows per second of a hand-written loop."""
    start, rows = clock(), 0
    kept = []
    for table in pq.ParquetFile(path).iter_batches(batch_size=batch):
        pictures = [np.asarray(Image.open(io.BytesIO(one["bytes"])).convert("RGB")) for one in table.column("image").to_pylist()]
        ids = table.column("creative_id").to_pylist()
        with torch.inference_mode():
            kept.append(encoder(encoder.prepare(Creatives(ids, ids, pictures, table.column("copy").to_pylist()))).numpy())
        rows += len(ids)
    return rows / (clock() - start)


def job(config: EmbeddingRunConfig, path: Path, folder: Path, encoder: tuple[Path, str, Encoder], clock: Callable[[], float]) -> float:
    """Rows per second of the job."""
    start = clock()
    done = embed_table(config, str(path), folder, encoder)
    return done.kept / (clock() - start)


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="Ray actors; their start is then part of the job's time")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of this process alone, for a busy machine without workers")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "creatives.parquet"
        pq.write_table(creatives(options.rows), path)
        how = {"batch_rows": options.batch, "workers": options.workers, "threads": torch.get_num_threads()}
        config = EmbeddingRunConfig(kind="embedding", name="b", runs_dir=name, data={"creatives": str(path)}, job=how)
        encoder = prepare_encoder(config, folder)
        warm = folder / "warm.parquet"
        pq.write_table(creatives(options.batch), warm)
        bare_loop(encoder[2], warm, options.batch, clock)
        loops, jobs = [], []
        for turn in range(options.rounds):
            loops.append(bare_loop(encoder[2], path, options.batch, clock))
            jobs.append(job(config, path, folder / f"round-{turn}", encoder, clock))
        ratios = [ours / bare for ours, bare in zip(jobs, loops, strict=True)]
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"{options.rows} rows of 400 x 400 JPEG, batch {options.batch}, {threads} thread(s), {options.clock} time, load {load:.1f}")
    print(f"{'':24}{'rows/s, median':>16}")
    print(f"{'bare loop':24}{statistics.median(loops):16.1f}")
    print(f"{f'job, {options.workers} workers':24}{statistics.median(jobs):16.1f}")
    print(f"ratio within a round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.2f}, bar {BAR}")
    return 0 if statistics.median(ratios) >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
