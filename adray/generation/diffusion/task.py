"""A generator's training job: where it starts from, which pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from adray.data.parquet import open_parquet
from adray.data.stream import TableStream, iterate
from adray.generation.components import load_components
from adray.generation.diffusion.config import DiffusionRunConfig
from adray.generation.diffusion.module import DiffusionModule
from adray.generation.diffusion.source import DiffusionBatch, DiffusionSource, PictureCollate, Pictures, drawn_batch, picture_columns
from adray.generation.diffusion.start import Start
from adray.generation.usable import UsableTables


@dataclass(frozen=True)
class DiffusionTask:
    """Builds networks and batches in every training process; a `training.module.TrainTask`.

    Attributes:
        config: The run.
        start: The generator that training starts from.
        tables: The run's pictures.
    """

    config: DiffusionRunConfig
    start: Start
    tables: UsableTables

    def build_module(self) -> DiffusionModule:
        """Load the generator; the artifact will say where it came from."""
        config = self.config
        lineage = {
            "generator": config.generator,
            "controlnet": config.controlnet,
            "trained": list(config.trained),
            "tables": {"train": {"path": config.data.train, "rows": self.tables.rows["train"], "fingerprint": self.tables.fingerprint}},
        }
        return DiffusionModule(load_components(self.start.path, self.start.controlnet), config.trained, config.objective, lineage)

    def collate(self, path: str) -> PictureCollate:
        """Reads pictures of a table.

        Raises:
            DataError: If the table cannot be read or lacks a column.
        """
        names = open_parquet(path).schema.names
        return PictureCollate(self.config.data.size, self.config.caption, picture_columns(names, self.config.caption, path))

    def train_source(self, batch_size: int, micro_batch_size: int) -> DiffusionSource:
        """Training pictures in an order that any number of workers can resume."""
        config = self.config
        collate = self.collate(self.tables.train)
        stream: TableStream[Pictures] = TableStream(
            self.tables.train,
            seed=config.seed,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            collate=collate,
            lanes=config.data.lanes,
            shuffle_rows=config.data.shuffle_rows,
            columns=collate.columns,
        )
        return DiffusionSource(stream, config.caption, config.seed)

    def eval_batches(self) -> Iterable[DiffusionBatch] | None:
        """The first held-out pictures, with whole captions and noise that is always the same."""
        return self._held_out()

    def _held_out(self) -> Iterator[DiffusionBatch]:
        config = self.config
        collate, left = self.collate(self.tables.holdout), config.evaluation.rows
        for rows in iterate(self.tables.holdout, min(left, config.evaluation.batch_rows), collate.columns, collate):
            yield drawn_batch(rows, config.caption, config.seed, None)
            left -= len(rows.keys)
            if left <= 0:
                return
