"""A MoCo run's training job: its module, its batches, its judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.factory import build_encoder, save_encoder
from adray.representation.moco.batches import LabelledBatch, PictureBatch
from adray.representation.moco.module import MocoModule
from adray.representation.moco.run_config import MocoRunConfig
from adray.representation.moco.sources import PictureMaker, ShuffledRows
from adray.representation.moco.store import PictureStore
from adray.representation.moco.streaming import streamed
from adray.training.module import BatchSource


@dataclass(frozen=True)
class ScratchTask:
    """Train a picture encoder from scratch on a picture store; a `training.module.TrainTask`.

    Attributes:
        config: The run's config.
        train: Folder of the training pictures' store; None streams `config.data.train`.
        bank: Folder of the labelled store that neighbours are looked up in; None judges nothing.
        test: Folder of the labelled store that is classified.
        lineage: Where the tables came from.
    """

    config: MocoRunConfig
    train: Path | None
    bank: Path | None = None
    test: Path | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def build_module(self) -> MocoModule:
        """The encoder at random weights, its heads and its momentum copy."""
        config = self.config
        return MocoModule(
            build_encoder(config.encoder).train(),
            config.moco,
            config.views,
            seed=config.seed,
            export=self._export,
            knn=config.evaluation,
            size=config.view_size,
            convolutional=config.encoder.kind == "resnet",
        )

    def _export(self, encoder: Encoder, folder: Path) -> None:
        save_encoder(encoder, self.config.encoder, folder, lineage=self.lineage)

    def train_source(self, batch_size: int, micro_batch_size: int) -> BatchSource:
        """Shuffled pictures; their views are made in the module."""
        if self.train is None:
            return streamed(self.config, batch_size, micro_batch_size)
        rows = len(PictureStore.load(self.train))
        source: ShuffledRows[PictureBatch] = ShuffledRows(rows, batch_size, micro_batch_size, self.config.seed, PictureMaker(self.train))
        return source

    def eval_batches(self) -> Iterable[LabelledBatch] | None:
        """The labelled pictures as the encoder reads them outside of training."""
        if self.bank is None or self.test is None:
            return None
        return labelled_batches(self.bank, self.test, self.config.evaluation.batch_rows)


def labelled_batches(bank: Path, test: Path, batch_rows: int) -> Iterator[LabelledBatch]:
    """Both labelled stores in batches; their squares have the encoder's size, which is what its `prepare` gives.

    Labels are numbered over both stores: either may lack one that the other has.
    """
    stores = {"bank": PictureStore.load(bank), "test": PictureStore.load(test)}
    names = np.array(sorted({name for store in stores.values() for name in store.names}))
    parts: tuple[Literal["bank", "test"], ...] = ("bank", "test")
    for part in parts:
        store = stores[part]
        numbers = np.searchsorted(names, np.array(store.names))[store.labels]
        for start in range(0, len(store), batch_rows):
            pixels = torch.from_numpy(np.array(store.pictures[start : start + batch_rows]))
            labels = torch.from_numpy(numbers[start : start + batch_rows])
            yield LabelledBatch(EncoderInputs({"pixels": pixels}, len(labels)), labels, part)
