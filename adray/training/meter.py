"""What is measured while training: means of the module's scalars, speed, and the share of time spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from adray.training.distributed import World


class Meter:
    """Collects between two log rows without a device synchronisation or a collective call; reduces at the row.

    Args:
        world: The processes whose means are taken.
        batch_size: Rows per optimizer step over all ranks.
    """

    def __init__(self, world: World, batch_size: int) -> None:
        self._world = world
        self._batch_size = batch_size
        self._names: list[str] | None = None
        self.total_wait_s = 0.0
        self.total_steps = 0
        self.started = time.perf_counter()
        self._clear()

    def _clear(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._steps = 0
        self._wait_s = 0.0
        self._since = time.perf_counter()

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Take in one micro-batch's outputs; everything but scalars is left out."""
        for name, value in outputs.items():
            if value.ndim == 0:
                self._values.setdefault(name, []).append(value.detach())

    def step_done(self) -> None:
        """Count one optimizer step."""
        self._steps += 1
        self.total_steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time a wait for data."""
        start = time.perf_counter()
        yield
        self._wait_s += time.perf_counter() - start

    def pause(self, seconds: float) -> None:
        """Leave time that was spent on something else (a checkpoint, an evaluation) out of the step time."""
        self._since += seconds

    def first_bad_loss(self) -> int | None:
        """How many micro-batches ago (1 = the latest) the first loss since the last row was not finite; None if none was."""
        losses = self._values.get("loss")
        if not losses:
            return None
        bad = torch.stack(losses).isfinite().logical_not().nonzero()
        return len(losses) - int(bad[0]) if len(bad) else None

    def row(self) -> dict[str, float]:
        """Means over all ranks since the last row. All ranks call it together.

        Returns:
            `train/<name>` per scalar, `speed/rows_per_s`, `speed/step_seconds` and `speed/data_wait_share` (0 to 1).
            Values that are not finite are left out of a mean; so are scalars that appear only after the first row.
        """
        elapsed = max(time.perf_counter() - self._since, 1e-9)
        names = self._agreed_names()
        sums = torch.zeros(2 * len(names) + 2, dtype=torch.float64)
        for i, name in enumerate(names):
            if self._values.get(name):
                values = torch.stack(self._values[name]).double().cpu()
                values = values[values.isfinite()]
                sums[2 * i], sums[2 * i + 1] = values.sum(), len(values)
        sums[-2:] = torch.tensor([elapsed, self._wait_s], dtype=torch.float64)
        total = self._world.sum(sums.to(self._world.device)).tolist()
        row = {f"train/{name}": total[2 * i] / total[2 * i + 1] for i, name in enumerate(names) if total[2 * i + 1]}
        elapsed, wait = total[-2] / self._world.size, total[-1] / self._world.size
        if self._steps:
            row["speed/step_seconds"] = elapsed / self._steps
            row["speed/rows_per_s"] = self._steps * self._batch_size / elapsed
        row["speed/data_wait_share"] = min(1.0, wait / elapsed)
        self.total_wait_s += wait
        self._clear()
        return row

    def _agreed_names(self) -> list[str]:
        """The scalars' names, the same list on every rank: it decides the layout of the reduced tensor."""
        if self._names is None:
            everyone = self._world.gather(sorted(self._values))
            self._names = sorted({name for names in everyone for name in names})
        return self._names
