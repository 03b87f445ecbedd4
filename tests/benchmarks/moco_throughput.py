"""Images per second of adray's MoCo v3 step against a loop made of lightly's modules.

`python tests/benchmarks/moco_throughput.py` builds lightly's virtualenv once, runs both in turn, several rounds, and prints a table.
The same backbone, batch, precision, optimizer and one thread; ready-made views on both sides, so that no one's augmentation counts.
Exit code 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from peers import Contestant, interpreter, run_script

BAR = 1.0
CONTESTANTS = (
    Contestant("adray", "adray_moco_peer.py"),
    Contestant("lightly 1.5.22", "lightly_peer.py", ("torch==2.13.0", "lightly==1.5.22")),
)


def main() -> None:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "adray" / "peers")
    arguments = parser.parse_args()
    pythons = {one.name: interpreter(one, arguments.cache) for one in CONTESTANTS}
    found: dict[str, list[dict[str, float]]] = {one.name: [] for one in CONTESTANTS}
    for _ in range(arguments.rounds):
        for one in CONTESTANTS:
            found[one.name].append(run_script(one, pythons[one.name], ["--steps", str(arguments.steps)], arguments.core))
    print(f"{'':16} {'images/s':>10} {'per CPU s':>10} {'ratio (CPU), by round'}")
    ratios = [a["images_per_cpu_s"] / b["images_per_cpu_s"] for a, b in zip(*found.values(), strict=True)]
    for name, results in found.items():
        medians = [statistics.median(one[key] for one in results) for key in ("images_per_s", "images_per_cpu_s")]
        print(f"{name:16} {medians[0]:10.0f} {medians[1]:10.0f}")
    ratio = statistics.median(ratios)
    print(f"adray / lightly: {ratio:.2f} (rounds {', '.join(f'{one:.2f}' for one in ratios)}), bar {BAR}")
    sys.exit(ratio < BAR)


if __name__ == "__main__":
    main()
