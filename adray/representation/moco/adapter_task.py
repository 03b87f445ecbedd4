"""Adapter mode: the encoder stays as it is, a residual perceptron learns on its cached vectors."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from adray.representation.encoders.adapted import Adapted, AdaptedConfig, VectorAdapter
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.factory import build_encoder, save_encoder
from adray.representation.moco.batches import LabelledBatch, ViewBatch
from adray.representation.moco.config import AdapterConfig
from adray.representation.moco.module import MocoModule
from adray.representation.moco.prepare import Prepared
from adray.representation.moco.run_config import MocoRunConfig
from adray.representation.moco.sources import ShuffledRows
from adray.representation.moco.vectors import VectorMaker, VectorStore, encode_views, in_batches, usable
from adray.representation.picture_folder import creatives_table, labels_of
from adray.run import Run
from adray.training.checkpoint import list_checkpoints
from adray.training.loop import CHECKPOINTS
from adray.training.module import BatchSource

Part = Literal["bank", "test"]


@dataclass(frozen=True)
class AdapterTask:
    """Train an adapter on a vector store; a `training.module.TrainTask`.

    Attributes:
        config: The run's config.
        tune: Its `tune` section.
        dim: Width of the vectors.
        train: Folder of the training vectors.
        judged: Vectors and labels (text) of bank and test; empty judges nothing.
        lineage: Where the tables came from.
    """

    config: MocoRunConfig
    tune: AdapterConfig
    dim: int
    train: Path
    judged: Mapping[Part, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def build_module(self) -> MocoModule:
        """The adapter, which starts as the identity, its heads and its momentum copy."""
        config = self.config
        adapter = VectorAdapter(self.dim, self.tune.hidden, self.tune.input_dropout)
        return MocoModule(adapter, config.moco, config.views, seed=config.seed, export=self._export, knn=config.evaluation)

    def _export(self, encoder: Encoder, folder: Path) -> None:
        """The frozen encoder with its adapter: an artifact that reads creatives."""
        whole = Adapted(frozen_encoder(self.config), self.tune.hidden)
        whole.adapter.load_state_dict(encoder.state_dict())
        save_encoder(whole, AdaptedConfig(base=self.config.encoder, hidden=self.tune.hidden), folder, lineage=self.lineage)

    def train_source(self, batch_size: int, micro_batch_size: int) -> BatchSource:
        """Shuffled creatives, two of each one's vectors."""
        maker = VectorMaker(self.train, self.config.seed)
        source: ShuffledRows[ViewBatch] = ShuffledRows(
            len(VectorStore.load(self.train)), batch_size, micro_batch_size, self.config.seed, maker
        )
        return source

    def eval_batches(self) -> Iterable[LabelledBatch] | None:
        """The judged creatives' vectors as they were before the adapter."""
        if not self.judged:
            return None
        return labelled_vectors(self.judged)


def frozen_encoder(config: MocoRunConfig) -> Encoder:
    """The encoder that is refined, the same at every call: weights that its config leaves to chance come from the run's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_encoder(config.encoder)


def labelled_vectors(judged: Mapping[Part, tuple[np.ndarray, np.ndarray]]) -> Iterator[LabelledBatch]:
    """Bank and test as one batch each, labels numbered over both."""
    names = np.unique(np.concatenate([labels for _, labels in judged.values()]))
    for part, (vectors, labels) in judged.items():
        numbers = torch.from_numpy(np.searchsorted(names, labels))
        yield LabelledBatch(EncoderInputs({"vectors": torch.from_numpy(vectors)}, len(vectors)), numbers, part)


def prepare_adapter(config: MocoRunConfig, tune: AdapterConfig, run: Run) -> Prepared:
    """Encode views of the training creatives, and the judged creatives as they are.

    Raises:
        DataError: If a table cannot be used.
    """
    encoder = frozen_encoder(config)
    size = config.view_size or 224
    folder = run.folder / "vectors"
    rows = config.evaluation.batch_rows
    with run.stage("encode"):
        # Before the first checkpoint the settings that shape the vectors may still be changed and the run resumed.
        if not (folder.is_dir() and list_checkpoints(run.folder / CHECKPOINTS)):
            encode_views(
                encoder,
                config.data.train,
                folder,
                count=tune.views,
                views=config.views,
                seed=config.seed,
                size=size,
                batch_rows=rows,
                on_progress=progress_lines(tune.views),
            )
        judged = {} if config.data.test is None else judged_vectors(config, encoder)
    run.tables += [path for path in (config.data.train, config.data.bank, config.data.test) if path]
    run.log({"data/rows/train": len(VectorStore.load(folder))})
    lineage = {"tables": {"train": config.data.train}}
    task = AdapterTask(config, tune, encoder.dim, folder, judged, lineage)

    def with_encoder() -> Iterator[LabelledBatch] | None:
        return None if config.data.test is None else labelled_creatives(config, encoder)

    return Prepared(task, "knn_untuned", with_encoder)


def progress_lines(views: int) -> Callable[[int, int], None]:
    """A line on stderr after each batch of creatives whose `views` views have been encoded, with the speed so far."""
    start = time.perf_counter()

    def tell(done: int, rows: int) -> None:
        speed = done / max(time.perf_counter() - start, 1e-9)
        left = (rows - done) / speed
        print(f"encoding {views} views of creatives: {done:,} of {rows:,}  {speed:,.1f}/s  {left:,.0f} s left", file=sys.stderr)

    return tell


def labelled_creatives(config: MocoRunConfig, encoder: Encoder) -> Iterator[LabelledBatch]:
    """Bank and test as the encoder prepares them."""
    assert config.data.test is not None
    paths: dict[Part, str] = {"bank": config.data.bank or config.data.train, "test": config.data.test}
    tables = {part: creatives_table(path) for part, path in paths.items()}
    labels = {part: labels_of(table, config.data.label, paths[part]) for part, table in tables.items()}
    names = sorted({label for column in labels.values() for label in column})
    for part, table in tables.items():
        creatives = usable(table, paths[part], config.view_size or 224)
        of_id = dict(zip(table.column("creative_id").to_pylist(), labels[part], strict=True))
        for some in in_batches(creatives, config.evaluation.batch_rows):
            numbers = torch.tensor([names.index(of_id[one]) for one in some.creative_ids])
            yield LabelledBatch(encoder.prepare(some), numbers, part)


@torch.no_grad()
def judged_vectors(config: MocoRunConfig, encoder: Encoder) -> dict[Part, tuple[np.ndarray, np.ndarray]]:
    """Vectors (float32 `[n, d]`) and label numbers of bank and test, without augmentation."""
    found: dict[Part, tuple[list[np.ndarray], list[np.ndarray]]] = {"bank": ([], []), "test": ([], [])}
    for batch in labelled_creatives(config, encoder):
        found[batch.part][0].append(encoder(batch.inputs).numpy())
        found[batch.part][1].append(batch.labels.numpy())
    return {part: (np.concatenate(vectors), np.concatenate(labels)) for part, (vectors, labels) in found.items()}
