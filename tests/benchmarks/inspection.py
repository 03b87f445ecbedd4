"""Inspection by the verb's Ray Data actors against a bare loop: same inspector, same batches, same pictures, same core, in turn.

    python tests/benchmarks/inspection.py [--rounds 3] [--rows 4096] [--batch 32] [--side 64] [--core 0]

Bar: actors' inspections/s >= 0.9 of the loop's. The loop decodes with Pillow, computes the maps, runs the network and keeps the
probabilities in memory; the verb's one actor also checks rows and cut-outs, and writes, records and collects verdicts. Both have one
thread on one core. Starting an actor (a process that imports torch and loads the inspector) is counted once per job, whatever its
size; so the bar is on the speed after the first work item, and the whole with its start is printed beside it.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from adray.feedback.artifact import LoadedInspector, export_inspector, load_inspector  # noqa: E402
from adray.feedback.config import MapsConfig, RFNetConfig, TrunkConfig  # noqa: E402
from adray.feedback.inspection.config import InspectionRunConfig  # noqa: E402
from adray.feedback.inspection.job import inspect_table  # noqa: E402
from adray.feedback.rfnet import build  # noqa: E402
from adray.ray_session import stay_on_loopback, use_ray  # noqa: E402
from adray.simulation.annotations import simulate_annotations  # noqa: E402
from adray.simulation.annotations_config import AnnotationsConfig  # noqa: E402

BAR = 0.9


def bare_loop(inspector: LoadedInspector, path: Path, batch: int) -> float:
    """Pictures per second of a hand-written loop."""

    def pixels(cells: list[dict]) -> torch.Tensor:
        decoded = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells])
        return torch.from_numpy(decoded).permute(0, 3, 1, 2).float() / 255.0

    start, rows = time.perf_counter(), 0
    kept = []
    for table in pq.ParquetFile(path).iter_batches(batch_size=batch, columns=["image", "cutout", "copy"]):
        pictures, cutouts = (pixels(table.column(name).to_pylist()) for name in ("image", "cutout"))
        kept.append(inspector.probabilities(pictures, cutouts, table.column("copy").to_pylist()).numpy())
        rows += len(pictures)
    return rows / (time.perf_counter() - start)


def job(folder: Path, name: str, path: Path, batch: int) -> dict[str, float]:
    """Speeds of the verb's job with one actor: of the whole, and after its first item."""
    how = {"workers": 1, "threads": 1, "batch_rows": batch, "chunk_rows": 512}
    config = InspectionRunConfig(
        kind="inspection", name=name, runs_dir=str(folder), artifact=str(folder / "rfnet"), data={"pictures": str(path)}, job=how
    )
    return inspect_table(config, folder / name).done.speeds()


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    # Ray's processes, started below, inherit the core.
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    stay_on_loopback()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = AnnotationsConfig(products=50, pictures=options.rows, holdout_pictures=1, size=options.side)
        simulate_annotations(world, 0, folder / "world")
        path = folder / "world" / "train.parquet"
        torch.manual_seed(0)
        trunk = TrunkConfig(stem=16, widths=[16, 48], depths=[1, 1])
        model = RFNetConfig(concat="channels", image_size=options.side, trunk=trunk)
        export_inspector(folder / "rfnet", build(model), model, MapsConfig())
        inspector = load_inspector(folder / "rfnet")
        use_ray(4)
        bare_loop(inspector, path, options.batch)
        loops, whole, steady = [], [], []
        for turn in range(options.rounds):
            # The loop's speed is that of just before and just after the job: others on the machine come and go.
            before = bare_loop(inspector, path, options.batch)
            speeds = job(folder, f"round-{turn}", path, options.batch)
            loops.append((before + bare_loop(inspector, path, options.batch)) / 2)
            whole.append(speeds["rows_per_s"])
            steady.append(speeds["rows_per_s_after_start"])
            print(f"round {turn + 1}: loop {loops[-1]:.1f}/s, actor {steady[-1]:.1f}/s, with its start {whole[-1]:.1f}/s", flush=True)
    ratios = [ours / bare for ours, bare in zip(steady, loops, strict=True)]
    size = f"{options.side} x {options.side}"
    print(f"{options.rows} pictures of {size}, batch {options.batch}, one core, load {os.getloadavg()[0]:.1f}")
    print(f"{'':34}{'inspections/s, median':>22}{'to the loop':>14}")
    bare = statistics.median(loops)
    rows = (
        ("bare loop", bare),
        ("one Ray Data actor, after its start", statistics.median(steady)),
        ("with its start", statistics.median(whole)),
    )
    for label, speed in rows:
        print(f"{label:36}{speed:20.1f}{speed / bare:14.2f}")
    print(f"ratio within a round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.2f}, bar {BAR}")
    return 0 if statistics.median(ratios) >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
