"""LoRA mode: a pretrained encoder changed a little, with views of picture, copy and siblings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adray.data.hashing import hash_strings
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.factory import build_encoder, build_without_weights, save_encoder
from adray.representation.moco.adapter_task import labelled_creatives
from adray.representation.moco.batches import LabelledBatch, ViewBatch
from adray.representation.moco.config import LoraConfig
from adray.representation.moco.module import MocoModule
from adray.representation.moco.prepare import Prepared
from adray.representation.moco.run_config import MocoRunConfig
from adray.representation.moco.sources import ShuffledRows
from adray.representation.moco.tuning import merged_into, tuned
from adray.representation.moco.vectors import augmented, usable
from adray.representation.picture_folder import creatives_table
from adray.representation.views.keyed import Keyed
from adray.representation.views.pairs import Look, plan_pairs, siblings
from adray.run import Run
from adray.training.module import BatchSource

_DEFAULT_SIZE = 224


class PairMaker:
    """Makes both views of some creatives and prepares them for the encoder; the table is held decoded, near the views' size.

    Args:
        config: The run's config.
    """

    def __init__(self, config: MocoRunConfig) -> None:
        self._config = config
        self._size = config.view_size or _DEFAULT_SIZE
        self._encoder: Encoder | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_config": self._config, "_size": self._size, "_encoder": None}

    def open(self) -> int:
        """Read the table, when it has not been; returns its rows.

        Raises:
            DataError: If the table cannot be used.
        """
        if self._encoder is None:
            path = self._config.data.train
            self._creatives = usable(creatives_table(path), path, self._size)
            self._ids = torch.from_numpy(hash_strings(list(self._creatives.creative_ids)))
            self._skus = torch.from_numpy(hash_strings(list(self._creatives.sku_ids)))
            self._of_sku = siblings(self._creatives.sku_ids)
            self._encoder = build_without_weights(self._config.encoder)
        return len(self._creatives)

    def __call__(self, rows: np.ndarray, epoch: int) -> ViewBatch:
        """The batch of some rows."""
        self.open()
        ids = self._ids[rows]
        keys = Keyed.of(self._config.seed, epoch, ids, 2)
        plan = plan_pairs(self._creatives, rows, self._of_sku, keys, self._config.pairs)
        first, second = (self._view(looks, epoch, v) for v, looks in enumerate((plan.first, plan.second)))
        return ViewBatch(first, second, ids, self._skus[rows], torch.from_numpy(plan.kinds))

    def _view(self, looks: list[Look], epoch: int, view: int) -> EncoderInputs:
        whole, config = self._creatives, self._config
        shown = Creatives(
            [whole.creative_ids[look.row] for look in looks],
            [whole.sku_ids[look.row] for look in looks],
            [whole.pictures[look.row] if look.picture else None for look in looks],
            [look.copy for look in looks],
        )
        assert self._encoder is not None
        return self._encoder.prepare(augmented(shown, config.views, config.seed, epoch, view, self._size))


@dataclass(frozen=True)
class LoraTask:
    """Train a part of an encoder on a creatives table; a `training.module.TrainTask`.

    Attributes:
        config: The run's config.
        tune: Its `tune` section.
        lineage: Where the tables came from.
    """

    config: MocoRunConfig
    tune: LoraConfig
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def build_module(self) -> MocoModule:
        """The encoder with what is trained of it, heads, and the momentum copy of what is trained."""
        config = self.config
        encoder = tuned(build_encoder(config.encoder), self.tune)
        return MocoModule(encoder, config.moco, config.views, seed=config.seed, export=self._export, knn=config.evaluation)

    def _export(self, encoder: Encoder, folder: Any) -> None:
        plain = merged_into(build_encoder(self.config.encoder), encoder) if self.tune.targets else encoder
        save_encoder(plain, self.config.encoder, folder, lineage=self.lineage)

    def train_source(self, batch_size: int, micro_batch_size: int) -> BatchSource:
        """Shuffled creatives; views are made while the previous batch is trained on."""
        maker = PairMaker(self.config)
        source: ShuffledRows[ViewBatch] = ShuffledRows(maker.open(), batch_size, micro_batch_size, self.config.seed, maker)
        return source

    def eval_batches(self) -> Iterable[LabelledBatch] | None:
        """The judged creatives as the encoder prepares them."""
        if self.config.data.test is None:
            return None
        return labelled_creatives(self.config, build_without_weights(self.config.encoder))


def prepare_lora(config: MocoRunConfig, tune: LoraConfig, run: Run) -> Prepared:
    """Nothing is made beforehand: the encoder changes, so its vectors do."""
    run.tables += [path for path in (config.data.train, config.data.bank, config.data.test) if path]
    task = LoraTask(config, tune, {"tables": {"train": config.data.train}})
    return Prepared(task, "knn_untuned", task.eval_batches)
