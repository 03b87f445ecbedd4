"""A fine-tuning job: which generator, which inspector, which products."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adray.data.parquet import open_parquet
from adray.data.stream import TableStream
from adray.feedback.artifact import load_inspector
from adray.generation.components import load_components
from adray.generation.rfft.config import RfftRunConfig
from adray.generation.rfft.module import FeedbackModule
from adray.generation.rfft.source import FeedbackBatch, FeedbackSource, ProductCollate, Products, request_columns
from adray.generation.usable import UsableTables


@dataclass(frozen=True)
class FeedbackTask:
    """Builds networks and batches in every training process; a `training.module.TrainTask`.

    Attributes:
        config: The run.
        tables: Its products.
    """

    config: RfftRunConfig
    tables: UsableTables

    def build_module(self) -> FeedbackModule:
        """Load generator and inspector; the artifact will say which ones."""
        config = self.config
        inspector = load_inspector(config.feedback.inspector)
        lineage = {
            "generator": config.generator,
            "controlnet": config.controlnet,
            "inspector": {"path": config.feedback.inspector, "content_hash": inspector.content_hash},
            "tables": {
                "train": {"path": config.data.table("train"), "rows": self.tables.rows["train"], "fingerprint": self.tables.fingerprint}
            },
        }
        parts = load_components(config.generator, config.controlnet)
        return FeedbackModule(parts, inspector, config.feedback, config.sampling, lineage)

    def collate(self, path: str) -> ProductCollate:
        """Reads products of a table.

        Raises:
            DataError: If the table cannot be read or lacks a column.
        """
        return ProductCollate(self.config.placement, request_columns(open_parquet(path).schema.names, path))

    def train_source(self, batch_size: int, micro_batch_size: int) -> FeedbackSource:
        """Training products in an order that any number of workers can resume."""
        config = self.config
        collate = self.collate(self.tables.train)
        stream: TableStream[Products] = TableStream(
            self.tables.train,
            seed=config.seed,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            collate=collate,
            lanes=config.data.lanes,
            shuffle_rows=config.data.shuffle_rows,
            columns=collate.columns,
        )
        return FeedbackSource(stream, config.prompts, config.placement, config.seed, config.sampling.steps, config.feedback.last_steps)

    def eval_batches(self) -> Iterable[FeedbackBatch] | None:
        """None: pictures before and after are compared when the run has trained."""
        return None
