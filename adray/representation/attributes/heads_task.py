"""The training job of the heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adray.data.stream import TableStream, iterate
from adray.representation.attributes.heads_data import LabelledVectors, collate, load_prepared
from adray.representation.attributes.heads_model import AttributeHeads

_EVALUATION_ROWS = 1024


@dataclass(frozen=True)
class HeadsTask:
    """Builds the heads and their batches in every training process; a `training.module.TrainTask`.

    Attributes:
        folder: What `heads_data.prepare` wrote.
        lanes: Read positions; a multiple of the workers.
        seed: Seed of the shuffle.
    """

    folder: Path
    lanes: int
    seed: int

    def build_module(self) -> AttributeHeads:
        """Build the heads."""
        prepared = load_prepared(self.folder)
        return AttributeHeads(prepared.classes, prepared.dim, prepared.encoder)

    def train_source(self, batch_size: int, micro_batch_size: int) -> TableStream[LabelledVectors]:
        """The training rows, shuffled."""
        return TableStream(
            load_prepared(self.folder).split("train"),
            seed=self.seed,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            collate=collate,
            lanes=self.lanes,
        )

    def eval_batches(self) -> Iterable[LabelledVectors] | None:
        """The rows that judge."""
        return iterate(load_prepared(self.folder).split("test"), _EVALUATION_ROWS, None, collate)

    def calibration_batches(self) -> Iterable[LabelledVectors]:
        """The rows that calibrate."""
        return iterate(load_prepared(self.folder).split("calibration"), _EVALUATION_ROWS, None, collate)
