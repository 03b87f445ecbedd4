"""The ranker's training speed against DeepCTR-Torch and FuxiCTR: same data, same DCN-V2, same batch, one epoch, one core each.

`python tests/benchmarks/peers.py` builds each peer's virtualenv once, runs everybody in turn, several rounds, and prints a table.
Turns are interleaved so that whatever else the machine does falls on all alike. Exit code 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent / "peers"
ROOT = HERE.parents[2]
BAR = 1.3


@dataclass(frozen=True)
class Contestant:
    """One side of the comparison.

    Attributes:
        name: What the table calls it.
        script: Its script in `peers/`, which prints one JSON line.
        packages: What its virtualenv holds; empty for this interpreter.
    """

    name: str
    script: str
    packages: tuple[str, ...] = ()


# deepctr-torch imports requests without asking for it. Other torch versions than the project's would compare kernels, not trainers.
CONTESTANTS = (
    Contestant("adray", "adray_peer.py"),
    Contestant("DeepCTR-Torch 0.3.0", "deepctr_torch_peer.py", ("torch==2.13.0", "deepctr-torch==0.3.0", "requests", "pyarrow")),
    Contestant("FuxiCTR 2.3.10", "fuxictr_peer.py", ("torch==2.13.0", "fuxictr==2.3.10", "pyarrow")),
)


def interpreter(contestant: Contestant, cache: Path) -> Path:
    """The contestant's Python; its virtualenv is made on first use and whenever its packages change."""
    if not contestant.packages:
        return Path(sys.executable)
    folder = cache / contestant.script.removesuffix(".py")
    python, done = folder / "bin" / "python", folder / "packages.json"
    wanted = json.dumps(contestant.packages)
    if not done.is_file() or done.read_text() != wanted:
        print(f"installing {contestant.name} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *contestant.packages], check=True)
        done.write_text(wanted)
    return python


def run(contestant: Contestant, python: Path, data: Path, seed: int, core: int) -> dict[str, float]:
    """One epoch and its test, pinned to one core with one thread.

    Returns:
        `rows`, `seconds` (of training alone), `cpu_seconds`, `auc`.
    """
    return run_script(contestant, python, ["--data", str(data), "--seed", str(seed)], core)


def run_script(contestant: Contestant, python: Path, arguments: list[str], core: int) -> dict[str, float]:
    """A contestant's script, pinned to one core with one thread; what its last line says."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT) if not contestant.packages else ""}
    pin = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    command = [*pin, str(python), str(HERE / contestant.script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{contestant.name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train-rows", type=int, default=600_000)
    parser.add_argument("--test-rows", type=int, default=100_000)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "adray-peers")
    arguments = parser.parse_args()
    data = arguments.cache / f"data-{arguments.train_rows}-{arguments.test_rows}"
    sys.path.insert(0, str(HERE))
    import dataset

    dataset.write(data, arguments.train_rows, arguments.test_rows)
    pythons = {contestant.name: interpreter(contestant, arguments.cache) for contestant in CONTESTANTS}
    results: dict[str, list[dict[str, float]]] = {contestant.name: [] for contestant in CONTESTANTS}
    for number in range(arguments.rounds):
        turn = number % len(CONTESTANTS)
        for contestant in CONTESTANTS[turn:] + CONTESTANTS[:turn]:
            found = run(contestant, pythons[contestant.name], data, seed=number, core=arguments.core)
            results[contestant.name].append(found)
            speed, auc = found["rows"] / found["seconds"], found["auc"]
            print(f"round {number + 1}: {contestant.name:<20} {speed:>8,.0f} samples/s, AUC {auc:.4f}", flush=True)
    sys.exit(0 if report(results) else 1)


def report(results: dict[str, list[dict[str, float]]]) -> bool:
    """Print medians; True when adray is fast enough and its AUC not lower than any peer's."""

    def median(name: str, of: str) -> float:
        runs = results[name]
        return statistics.median(r["auc"] if of == "auc" else r["rows"] / r[of] for r in runs)

    ours, *peers = results
    best = {of: max(median(name, of) for name in peers) for of in ("seconds", "cpu_seconds", "auc")}
    print(f"\n{'':<22}{'samples/s':>10}{'to better peer':>16}{'per CPU s':>12}{'to better peer':>16}{'AUC':>9}")
    for name in results:
        wall, cpu = median(name, "seconds"), median(name, "cpu_seconds")
        ratios = wall / best["seconds"], cpu / best["cpu_seconds"]
        print(f"{name:<22}{wall:>10,.0f}{ratios[0]:>16.2f}{cpu:>12,.0f}{ratios[1]:>16.2f}{median(name, 'auc'):>9.4f}")
    ratio, gap = median(ours, "seconds") / best["seconds"], median(ours, "auc") - best["auc"]
    passed = ratio >= BAR and gap >= 0
    print(f"medians of {len(results[ours])} rounds; bar {BAR}: {ratio:.2f}, AUC {gap:+.4f}: {'met' if passed else 'MISSED'}")
    return passed


if __name__ == "__main__":
    main()
