"""What the trainer costs: step time in Ray Train, under torchrun, in a hand-written DeepSpeed loop, in bare torch.

    python tests/benchmarks/overhead.py [--rounds 5] [--steps 60] [--processes 1] [--quantile 0.5] [--clock wall]

Prints one table: step time per launcher, and the ratios that have a bar (Ray / torchrun <= 1.05, torchrun /
hand-written <= 1.08). The launchers take turns within every round, so that a busy machine slows them alike; each ratio is
the median over rounds of the ratio within the round. The first steps of each start are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "RAY_AUTH_MODE": "disabled"})
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from adray.training.config import TrainingConfig  # noqa: E402
from adray.training.module import TrainModule  # noqa: E402

SKIPPED_STEPS = 10
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BATCH = {"ranker": 1024, "transformer": 32}


@dataclass(frozen=True)
class Rows:
    """A batch that is ready: this benchmark is about the step, not the data."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Rows:
        return Rows(self.x.to(device), self.y.to(device))


class Timed(TrainModule):
    """Notes the time at every optimizer step."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log, self.times = log, []

    def after_step(self, progress: float) -> None:
        self.times.append(CLOCKS[os.environ.get("OVERHEAD_CLOCK", "wall")]())

    def export(self, folder: Path) -> None:
        Path(self.log).write_text(json.dumps(self.times))
        (folder / "done.json").write_text("{}")


class Ranker(Timed):
    """26 hashed fields of 10,000 rows x 16 and an MLP 512-256-128: the size of a DCN on Criteo-like fields."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.table = nn.Embedding(26 * 10_000, 16)
        self.register_buffer("offsets", torch.arange(26) * 10_000)
        sizes = (26 * 16, 512, 256, 128)
        layers = [layer for a, b in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, nn.Linear(128, 1))

    def forward(self, batch: Rows) -> dict[str, Tensor]:
        logits = self.net(self.table(batch.x + self.offsets).flatten(1)).squeeze(1)
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, batch.y), "mean": logits.mean()}


class Transformer(Timed):
    """ViT-Ti-like: 64 tokens of width 192, 4 layers."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.embed = nn.Linear(192, 192)
        layer = nn.TransformerEncoderLayer(192, 3, 768, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(192, 10)

    def forward(self, batch: Rows) -> dict[str, Tensor]:
        logits = self.head(self.encoder(self.embed(batch.x)).mean(1))
        return {"loss": nn.functional.cross_entropy(logits, batch.y)}


def rows(model: str, size: int) -> Rows:
    """One random batch."""
    generator = torch.Generator().manual_seed(0)
    if model == "ranker":
        x = torch.randint(0, 10_000, (size, 26), generator=generator)
        return Rows(x, torch.randint(0, 2, (size,), generator=generator).float())
    return Rows(torch.randn(size, 64, 192, generator=generator), torch.randint(0, 10, (size,), generator=generator))


@dataclass(frozen=True)
class Source:
    """The same few batches again and again."""

    model: str
    micro: int
    steps: int

    def steps_per_epoch(self) -> int:
        return self.steps

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[Rows]:
        batch = rows(self.model, self.micro)
        for _ in range(first_step, self.steps):
            yield batch


@dataclass(frozen=True)
class Task:
    """A training task of one of the two models."""

    model: str
    log: str
    steps: int

    def build_module(self) -> Timed:
        return {"ranker": Ranker, "transformer": Transformer}[self.model](self.log)

    def train_source(self, batch_size: int, micro_batch_size: int) -> Source:
        return Source(self.model, micro_batch_size, self.steps)

    def eval_batches(self) -> None:
        return None


def settings(model: str, processes: int) -> TrainingConfig:
    """What every launcher trains with."""
    return TrainingConfig(batch_size=BATCH[model] * processes, workers=processes, lr=1e-3, epochs=1, checkpoint_every=10**9)


def through_fit(task: Task, processes: int, folder: str) -> None:
    """Our loop, in Ray workers, or under torchrun when that started us."""
    from adray.training.fit import fit

    fit(task, settings(task.model, processes), run_folder=folder, run_name="overhead", seed=0, quiet=True)


def by_hand(task: Task, processes: int, bare: bool) -> None:
    """What one would write without adray: a DeepSpeed loop, or DDP-free torch (one process)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = task.build_module()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    batches = Source(task.model, BATCH[task.model], task.steps).batches(0, 0, 0, 1)
    if bare:
        for batch in batches:
            optimizer.zero_grad()
            module(batch)["loss"].backward()
            optimizer.step()
            module.after_step(0.0)
    else:
        import deepspeed

        config = {
            "train_micro_batch_size_per_gpu": BATCH[task.model],
            "gradient_accumulation_steps": 1,
            "zero_optimization": {"stage": 0},
        }
        engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
        for batch in batches:
            engine.backward(engine(batch)["loss"])
            engine.step()
            module.after_step(0.0)
    if int(os.environ.get("RANK", "0")) == 0:
        Path(task.log).write_text(json.dumps(module.times))


def measure(launcher: str, model: str, processes: int, steps: int, quantile: float) -> float:
    """Step time of one start of one launcher, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        log = f"{folder}/times.json"
        inner = [str(Path(__file__).absolute()), "--inner", launcher, "--model", model, "--into", log]
        inner += ["--processes", str(processes), "--steps", str(steps)]
        command = [sys.executable, *inner]
        if launcher in ("torchrun", "deepspeed", "torch"):
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *inner]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{launcher} failed:\n{done.stderr[-4000:]}")
        times = json.loads(Path(log).read_text())
    gaps = [b - a for a, b in zip(times[SKIPPED_STEPS:], times[SKIPPED_STEPS + 1 :], strict=False)]
    return 1000 * sorted(gaps)[int(quantile * (len(gaps) - 1))]


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quantile", type=float, default=0.5, help="of a start's step times; 0.1 on a machine that others use too")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, which other programs do not lengthen")
    parser.add_argument("--model")
    parser.add_argument("--inner")
    parser.add_argument("--into")
    given = parser.parse_args()
    os.environ.setdefault("OVERHEAD_CLOCK", given.clock)
    if given.inner:
        task = Task(given.model, given.into, given.steps)
        if given.inner in ("ray", "torchrun"):
            through_fit(task, given.processes, str(Path(given.into).parent / "run"))
        else:
            by_hand(task, given.processes, bare=given.inner == "torch")
        return
    launchers = ["ray", "torchrun", "deepspeed", *(["torch"] if given.processes == 1 else [])]
    print(f"{given.processes} process(es) x 1 thread, {given.rounds} rounds of {given.steps} steps")
    print(f"ms per step ({given.clock}, quantile {given.quantile:g})")
    print(f"{'model':<12} " + " ".join(f"{name:>10}" for name in launchers) + "   ray/torchrun   torchrun/deepspeed")
    for model in [given.model] if given.model else BATCH:
        times = [
            {name: measure(name, model, given.processes, given.steps, given.quantile) for name in launchers} for _ in range(given.rounds)
        ]
        medians = {name: statistics.median(row[name] for row in times) for name in launchers}
        ray, torchrun = (statistics.median(row[a] / row[b] for row in times) for a, b in (("ray", "torchrun"), ("torchrun", "deepspeed")))
        row = " ".join(f"{medians[name]:>10.2f}" for name in launchers)
        print(f"{model:<12} {row}   {ray:>12.3f}   {torchrun:>18.3f}", flush=True)


if __name__ == "__main__":
    main()
