"""Training batches whose order is a function of (seed, epoch, step) and not of the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from adray.data.prefetch import prefetched
from adray.representation.moco.batches import PictureBatch
from adray.representation.moco.store import PictureStore

B = TypeVar("B")


@dataclass(frozen=True)
class ShuffledRows(Generic[B]):
    """Whole batches of n rows in a new random order each epoch; the rows left over wait for the next epoch.

    Every rank gets as many rows in every forward pass: the ranks' keys are gathered in it. Implements `BatchSource`.

    Attributes:
        rows: n.
        batch_size: Rows of an optimizer step over all ranks.
        micro_batch_size: Rows of one forward pass on one rank.
        seed: Seed of the order.
        make: Makes a batch from row indices (int64) and the epoch.
        prefetch: Batches made ahead.
    """

    rows: int
    batch_size: int
    micro_batch_size: int
    seed: int
    make: Callable[[np.ndarray, int], B]
    prefetch: int = 2

    def steps_per_epoch(self) -> int:
        """Whole batches in one pass."""
        return self.rows // self.batch_size

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[B]:
        """See `BatchSource.batches`."""
        return prefetched(self._make(epoch, first_step, rank, world_size), self.prefetch)

    def _make(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[B]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        for step in range(first_step, self.steps_per_epoch()):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            # All ranks' parts of one forward pass lie side by side: together they are each other's negatives.
            for part in rows.reshape(-1, world_size, self.micro_batch_size):
                yield self.make(part[rank], epoch)


class PictureMaker:
    """Takes rows out of a picture store. Picklable: each process opens the store itself.

    Args:
        folder: The store's.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = str(folder)
        self._store: PictureStore | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_folder": self._folder, "_store": None}

    def __call__(self, rows: np.ndarray, epoch: int) -> PictureBatch:
        """The batch of some rows."""
        if self._store is None:
            self._store = PictureStore.load(self._folder)
        store = self._store
        # Reading a memory map in order is kinder to the disk.
        places = np.argsort(rows, kind="stable")
        pictures = np.empty((len(rows), *store.pictures.shape[1:]), np.uint8)
        pictures[places] = store.pictures[rows[places]]
        sizes, ids, skus = (torch.from_numpy(np.asarray(column[rows])) for column in (store.sizes, store.ids, store.skus))
        return PictureBatch(torch.from_numpy(pictures), sizes, ids, skus, epoch)
