"""The processes of one training run: who am I, agree on something, wait for rank 0.

The same code runs in Ray workers (Ray has made the process group), under torchrun (its variables are in the
environment) and alone in one process (a group of one, in memory, without a port).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from adray.training.config import TrainingConfig

_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# What DeepSpeed reads from the environment even when it is given a ready process group.
_ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}


@dataclass
class World:
    """This process among all that train.

    Attributes:
        rank: 0-based, over all nodes.
        size: Number of processes.
        device: Where this process computes.
    """

    rank: int
    size: int
    device: torch.device
    _waits: dict[str, int] = field(default_factory=dict)

    def same_for_all(self, value: Any) -> Any:
        """Rank 0's value (JSON-like), on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (JSON-like), in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def only_rank_zero(self, what: str, timeout: timedelta = timedelta(days=2)) -> Iterator[bool]:
        """Run a block on rank 0 while the others wait, however long it takes.

        A collective would run into its time-out while rank 0 evaluates, so the others wait on a key of the
        rendezvous store; it fails at once when rank 0's process dies.

        Args:
            what: Name of the block; used again for every pass through it.
            timeout: When the others stop waiting.

        Yields:
            True on rank 0, False elsewhere: `if` it.
        """
        number = self._waits[what] = self._waits.get(what, 0) + 1
        if self.size == 1:
            yield True
            return
        store, key = dist.distributed_c10d._get_default_store(), f"adray/{what}/{number}"
        if self.rank == 0:
            yield True
            # Not in a `finally`: when rank 0 fails, the others must not go on.
            store.set(key, "done")
        else:
            yield False
            store.wait([key], timeout)


def launched_by_torchrun() -> bool:
    """Whether torchrun (or something that sets the same variables) started this process."""
    return all(name in os.environ for name in _TORCHRUN)


@contextmanager
def joined_world(config: TrainingConfig) -> Iterator[World]:
    """Join the process group: Ray's, torchrun's, or a group of one.

    A group that was made here is destroyed at the end.
    """
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if config.gpus else torch.device("cpu")
    if config.gpus:
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size(), device)
        return
    kept = {name: os.environ.get(name) for name in _ALONE}
    timeout = timedelta(seconds=config.collective_timeout_s)
    backend = "nccl" if config.gpus else "gloo"
    if launched_by_torchrun():
        dist.init_process_group(backend, timeout=timeout)
    else:
        os.environ.update(_ALONE)
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        _destroy_group()
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _destroy_group() -> None:
    comm = sys.modules.get("deepspeed.comm")
    # DeepSpeed keeps groups by reference; without its own call, the next run in this process would be given dead ones.
    if comm is not None and comm.is_initialized():
        comm.destroy_process_group()
    if dist.is_initialized():
        dist.destroy_process_group()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Whatever the block draws, the generators go on afterwards as if it had not run."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


def random_state() -> dict[str, torch.Tensor]:
    """State of Python's, NumPy's and torch's generators as plain tensors (nothing to pickle)."""
    version, python, gauss = random.getstate()
    del version
    numpy_state: Any = np.random.get_state(legacy=False)
    state = {
        "python": torch.tensor(python, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "numpy_position": torch.tensor([numpy_state["state"]["pos"], numpy_state["has_gauss"]], dtype=torch.int64),
        "numpy_gauss": torch.tensor([numpy_state["gauss"]], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Restore what `random_state` returned."""
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss = state["numpy_position"].tolist()
    key = state["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, float(state["numpy_gauss"][0])))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
