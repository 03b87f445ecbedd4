"""A tiny training task for the trainer's own tests: regression on batches that are a pure function of (epoch, step, row)."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from adray.artifact import writing_artifact
from adray.training.module import TrainModule


@dataclass(frozen=True)
class Rows:
    """Rows `x` float32 `[n, 8]`, `y` float32 `[n]`, and the number of each row within its step."""

    x: torch.Tensor
    y: torch.Tensor
    numbers: torch.Tensor

    def __len__(self):
        return len(self.y)

    def to(self, device):
        return Rows(self.x.to(device), self.y.to(device), self.numbers.to(device))


def global_rows(epoch, step, batch_size):
    """All rows of one optimizer step, whatever the number of workers."""
    generator = np.random.default_rng([7, epoch, step])
    x = generator.standard_normal((batch_size, 8)).astype(np.float32)
    y = (np.sin(x[:, 0]) + x[:, 1] * x[:, 2]).astype(np.float32)
    numbers = np.arange(batch_size) + batch_size * (1000 * epoch + step)
    return Rows(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(numbers))


@dataclass(frozen=True)
class SyntheticSource:
    """Implements BatchSource: rank r owns the r-th part of every step's rows."""

    batch_size: int
    micro: int
    steps: int
    end_early: bool = False

    def steps_per_epoch(self):
        return self.steps

    def batches(self, epoch, first_step, rank, world_size) -> Iterator[Rows]:
        per_rank = self.batch_size // world_size
        for step in range(first_step, self.steps - self.end_early):
            rows = global_rows(epoch, step, self.batch_size)
            for start in range(rank * per_rank, (rank + 1) * per_rank, self.micro):
                part = slice(start, start + self.micro)
                yield Rows(rows.x[part], rows.y[part], rows.numbers[part])


HOLD_S = 240
"""How long a step on `hold`, (step, world size, rank[, "notice"]), waits; it makes the file `<held>-<step>` first."""


class Regressor(TrainModule):
    """An MLP with dropout (so that random state matters) and a buffer; records the rows it saw when told where."""

    def __init__(self, task):
        super().__init__()
        self.task = task
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(task.dropout), nn.Linear(16, 1))
        self.register_buffer("seen", torch.zeros(1))
        # A slow copy that no optimizer owns, as a momentum encoder has.
        self.slow = nn.Linear(16, 1).requires_grad_(False)
        self.step = None

    def forward(self, batch):
        task = self.task
        self._break_if_asked()
        if self.training:
            self.seen += len(batch)
        if self.training and task.log_rows and self.step is not None:
            rank = os.environ.get("RANK", "0")
            with open(f"{task.log_rows}-{rank}.jsonl", "a") as stream:
                stream.write(json.dumps({"step": self.step, "rows": batch.numbers.tolist()}) + "\n")
        prediction = self.net(batch.x).squeeze(1)
        loss = ((prediction - batch.y) ** 2).mean()
        if task.nan_at_step == self.step and int(os.environ.get("RANK", "0")) == task.nan_on_rank:
            loss = loss * float("nan")
        return {"loss": loss, "bias": prediction.mean() - batch.y.mean(), "prediction": prediction}

    def _break_if_asked(self):
        task = self.task
        if task.error_at_step == self.step:
            raise KeyError("no such column: price")
        if task.kill_once and self.step == task.kill_at_step and os.environ.get("RANK") == "1" and not Path(task.kill_once).exists():
            Path(task.kill_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)

        if self.step == task.stop_at_step:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_step(self, progress):
        self.step = round(progress * self.task.total)
        for step, world_size, rank, *until in self.task.hold:
            if (step, str(world_size), str(rank)) == (self.step, os.environ.get("WORLD_SIZE"), os.environ.get("RANK")):
                Path(f"{self.task.held}-{step}").touch()
                self._wait_for_notice() if until else self._wait()

    def _wait(self):
        """Until the file `hold_until` is there, or this process is ended, or it becomes clear that neither will be."""
        never = threading.Event()
        for _ in range(10 * HOLD_S):
            if self.task.hold_until and Path(self.task.hold_until).exists():
                return
            never.wait(0.1)

    def _wait_for_notice(self):
        """Until Ray has told this worker that a node is to be taken away; a step of at least 3 s."""
        from ray.train.v2._internal.execution.context import get_train_context

        never = threading.Event()
        for look in range(10 * HOLD_S):
            if look >= 30 and get_train_context().preemption_context.preemption_info is not None:
                return
            never.wait(0.1)

    def after_step(self, progress):
        with torch.no_grad():
            self.slow.weight.lerp_(self.net[3].weight, 0.1)

    def evaluate(self, batches):
        errors = [((self.net(b.x).squeeze(1) - b.y) ** 2) for b in batches]
        return {"test/mse": torch.cat(errors).mean().item()}

    def pictures(self):
        return {"weights": np.full((4, 6, 3), 128, np.uint8)} if self.task.with_picture else {}

    def export(self, folder):
        from safetensors.torch import save_file

        with writing_artifact(folder / "model", "test.regressor", {"hidden": 16}, lineage={"tables": ["synthetic"]}) as partial:
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, partial / "model.safetensors")


@dataclass(frozen=True)
class SyntheticTask:
    """Implements TrainTask."""

    steps_per_epoch: int = 10
    total: int = 20
    dropout: float = 0.1
    log_rows: str = ""
    nan_at_step: int = -1
    nan_on_rank: int = 0
    error_at_step: int = -1
    kill_at_step: int = -1
    kill_once: str = ""
    stop_at_step: int = -1
    with_picture: bool = False
    end_early: bool = False
    hold: tuple = ()
    held: str = ""
    hold_until: str = ""

    def build_module(self):
        return Regressor(self)

    def train_source(self, batch_size, micro_batch_size):
        return SyntheticSource(batch_size, micro_batch_size, self.steps_per_epoch, self.end_early)

    def eval_batches(self):
        return [global_rows(999, step, 64) for step in range(2)]


def exported_weights(folder):
    """The exported state dict of a finished run."""
    from adray.artifact import load_artifact

    return load_artifact(Path(folder) / "export" / "model", "test.regressor").tensors()


def rows_by_step(prefix, start=0):
    """What `log_rows` recorded: {step: sorted row numbers over all ranks}, dry runs left out."""
    steps = {}
    for path in sorted(Path(prefix).parent.glob(f"{Path(prefix).name}-*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            steps.setdefault(entry["step"], []).extend(entry["rows"])
    return {step: sorted(rows) for step, rows in sorted(steps.items()) if step >= start}
