"""Training pictures straight from a creatives table, decoded anew in each epoch: for tables too large to keep decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from adray.data.hashing import hash_strings
from adray.data.stream import TableStream
from adray.representation.encoders.towers import square
from adray.representation.moco.batches import PictureBatch
from adray.representation.moco.run_config import MocoRunConfig
from adray.representation.reading import COLUMNS, creatives_from_arrow


@dataclass(frozen=True)
class PictureCollate:
    """Rows of a creatives table to a batch of as many pictures.

    Ranks gather each other's keys, so none may come with fewer rows: the place of a picture that cannot be used is taken by
    another one of the batch, and a creative's second place is no negative of its first.

    Attributes:
        side: Side of the squares, in pixels.
    """

    side: int

    def __call__(self, rows: pa.Table) -> PictureBatch:
        """The batch; its epoch is filled in by the source."""
        creatives, bad = creatives_from_arrow(rows, at_least=self.side)
        good = [i for i, picture in enumerate(creatives.pictures) if picture is not None]
        if not good:
            from adray.data.bad_rows import BadRowsError

            raise BadRowsError(bad or [(row, "no picture") for row in range(rows.num_rows)])
        chosen = [good[i % len(good)] for i in range(rows.num_rows)]
        pictures = [creatives.pictures[i] for i in chosen]
        squares = np.stack([square(picture, self.side) for picture in pictures if picture is not None])
        sizes = [picture.shape[:2] for picture in pictures if picture is not None]
        ids, skus = hash_strings(list(creatives.creative_ids))[chosen], hash_strings(list(creatives.sku_ids))[chosen]
        return PictureBatch(torch.from_numpy(squares), torch.tensor(sizes), torch.from_numpy(ids), torch.from_numpy(skus), epoch=-1)


@dataclass(frozen=True)
class WholeSteps:
    """A table's stream without its last, smaller step, every batch knowing its epoch; implements `BatchSource`."""

    stream: TableStream[PictureBatch]
    batch_size: int

    def steps_per_epoch(self) -> int:
        """Whole batches in one pass."""
        return self.stream.rows // self.batch_size

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[PictureBatch]:
        """See `BatchSource.batches`."""
        micro = self.stream.plan.micro_batch_size
        left = (self.steps_per_epoch() - first_step) * (self.batch_size // (micro * world_size))
        batches = self.stream.batches(epoch, first_step, rank, world_size)
        for _ in range(left):
            yield replace(next(batches), epoch=epoch)


def streamed(config: MocoRunConfig, batch_size: int, micro_batch_size: int) -> WholeSteps:
    """The source of a run without a cache."""
    stream = TableStream(
        config.data.train,
        seed=config.seed,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        collate=PictureCollate(config.square_side),
        lanes=config.data.lanes,
        shuffle_rows=config.data.shuffle_rows,
        columns=list(COLUMNS),
    )
    return WholeSteps(stream, batch_size)
