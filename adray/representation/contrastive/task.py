"""A contrastive training job: which encoder, which pairs, which loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adray.data.stream import TableStream, iterate
from adray.representation.contrastive.batch import HeldOutBatch, HeldOutCollate, PairBatch, PairCollate
from adray.representation.contrastive.config import InfoNceConfig, PairsConfig
from adray.representation.contrastive.module import ContrastiveModule
from adray.representation.contrastive.pairs import HOLDOUT, TRAIN
from adray.representation.encoders.base import Encoder
from adray.representation.encoders.factory import EncoderConfig, build_encoder, build_without_weights


@dataclass
class ContrastiveTask:
    """Builds the module and its batches in every training process; a `training.module.TrainTask`.

    Attributes:
        encoder: The encoder's config.
        objective: The loss.
        pairs: How pairs are read.
        tables: Folder that `write_pairs` filled.
        seed: Of the shuffle.
        recall_at: Ranks that evaluation counts at.
        batch_rows: Creatives per batch in evaluation.
        lineage: Of the artifact.
    """

    encoder: EncoderConfig
    objective: InfoNceConfig
    pairs: PairsConfig
    tables: Path
    seed: int
    recall_at: tuple[int, ...] = (1, 10)
    batch_rows: int = 64
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def build_module(self) -> ContrastiveModule:
        """The encoder with its loss."""
        encoder = build_encoder(self.encoder)
        return ContrastiveModule(encoder, self.encoder, self.objective, self.recall_at, self.lineage)

    def train_source(self, batch_size: int, micro_batch_size: int) -> TableStream[PairBatch]:
        """The training pairs, in an order that any number of workers can resume."""
        return TableStream(
            str(self.tables / TRAIN),
            seed=self.seed,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            collate=PairCollate(self._preparing(), self.objective.chunk_rows, self.pairs.picture_side),
            lanes=self.pairs.lanes,
            shuffle_rows=self.pairs.shuffle_rows,
        )

    def eval_batches(self) -> Iterable[HeldOutBatch] | None:
        """The held-out creatives."""
        return held_out_batches(self.tables, self._preparing(), self.pairs, self.batch_rows)

    def _preparing(self) -> Encoder:
        return build_without_weights(self.encoder)


def held_out_batches(tables: Path, encoder: Encoder, pairs: PairsConfig, batch_rows: int) -> Iterable[HeldOutBatch]:
    """The held-out creatives of a run in batches.

    Args:
        tables: Folder that `write_pairs` filled.
        encoder: Prepares them.
        pairs: How pictures are read.
        batch_rows: Creatives per batch.
    """
    return iterate(str(tables / HOLDOUT), batch_rows, None, HeldOutCollate(encoder, pairs.picture_side))
