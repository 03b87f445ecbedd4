"""How fast a world is simulated, on one core.

    python tests/benchmarks/simulation_speed.py [--impressions N] [--images]

Prints seconds per stage and impressions per second, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

from adray.simulation.config import WorldConfig  # noqa: E402
from adray.simulation.world import simulate_world  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the stages of a simulated world on one core.")
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--skus", type=int, default=1_000)
    parser.add_argument("--base-ctr", type=float, default=0.05)
    parser.add_argument("--images", action="store_true", help="also render about six creatives per SKU")
    options = parser.parse_args()
    config = WorldConfig(
        impressions=options.impressions, users=options.users, skus=options.skus, base_ctr=options.base_ctr, images=options.images
    )
    stages: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        start, busy = time.perf_counter(), time.process_time()
        summary = simulate_world(config, 0, Path(folder) / "world", stages.__setitem__)
        total, busy = time.perf_counter() - start, time.process_time() - busy
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    counts = summary["counts"]
    print(f"{counts['impressions']:,} impressions, {counts['users']:,} users, {counts['skus']:,} SKUs, {counts['creatives']:,} creatives")
    print(f"truth: {counts['users'] * counts['creatives']:,} probabilities; {size / 2**20:,.0f} MiB written")
    print(f"\n| {'stage':<20} | seconds | share |\n| {'-' * 20} | ------: | ----: |")
    for stage, seconds in stages.items():
        print(f"| {stage:<20} | {seconds:7.2f} | {seconds / total:5.0%} |")
    print(f"| {'all':<20} | {total:7.2f} |  100% |")
    # On a shared machine the wall time says how busy the neighbours were; the CPU time says what the work costs.
    print(f"| {'all, CPU time':<20} | {busy:7.2f} |       |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"\n{counts['impressions'] / total:,.0f} impressions/s with the truth, peak memory {peak:,.0f} MiB")
    per_log = stages["log"] + stages["write impressions"]
    print(f"{counts['impressions'] / per_log:,.0f} impressions/s for the log alone")


if __name__ == "__main__":
    main()
