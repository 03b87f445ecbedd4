"""An inspector's training job: which tables, which network, which batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adray.data.labels import LABELS
from adray.data.stream import TableStream, iterate
from adray.feedback.config import AnnotationDataConfig, LabelWeights, MapsConfig, ModelConfig, RFNetConfig
from adray.feedback.encoders import TitleEncoder, Titles
from adray.feedback.inputs import Collate, Inputs, modalities
from adray.feedback.module import InspectorModule
from adray.feedback.tables import AnnotationTables


@dataclass(frozen=True)
class InspectorTask:
    """Builds the network and its batches in every training process; a `training.module.TrainTask`.

    Attributes:
        model: The network.
        maps: What computed depth and saliency.
        data: How tables are streamed.
        tables: The tables.
        seed: Seed of the shuffle.
        label_weights: How labels are weighed, see `RFNetRunConfig`.
        warm_up: Share of the run in which the encoders learn alone.
        prompt_loss: Weight of the prompt's words in the loss.
        batch_rows: Pictures per batch in evaluation.
        evaluates: Whether the trainer evaluates; else whoever trains does so afterwards.
    """

    model: ModelConfig
    maps: MapsConfig
    data: AnnotationDataConfig
    tables: AnnotationTables
    seed: int
    label_weights: LabelWeights
    warm_up: float
    prompt_loss: float
    batch_rows: int
    evaluates: bool

    def build_module(self) -> InspectorModule:
        """Build the network; it takes the tables' lineage into its artifact."""
        weights = label_weights(self.tables.labels, self.label_weights)
        return InspectorModule(self.model, self.maps, weights, {"tables": self.tables.lineage()}, self.warm_up, self.prompt_loss)

    def collate(self) -> Collate:
        """Turns rows into batches."""
        return Collate(self.model, titles_of(self.model))

    def train_source(self, batch_size: int, micro_batch_size: int) -> TableStream[Inputs]:
        """The training rows, in an order that any number of workers can resume."""
        collate = Collate(self.model, titles_of(self.model), prompts=self.warm_up > 0 or self.prompt_loss > 0)
        return TableStream(
            self.tables.train,
            seed=self.seed,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            collate=collate,
            lanes=self.data.lanes,
            shuffle_rows=self.data.shuffle_rows,
            columns=collate.columns(),
            reader=self.data.reader,
        )

    def held_out(self) -> Iterator[Inputs]:
        """The held-out rows, in file order."""
        collate = self.collate()
        return iterate(self.tables.holdout, self.batch_rows, collate.columns(), collate)

    def eval_batches(self) -> Iterable[Inputs] | None:
        """The held-out rows, for the trainer's own evaluation."""
        return self.held_out() if self.evaluates else None


def label_weights(counts: Mapping[str, int], how: LabelWeights) -> Tensor | None:
    """Weight of each label in the loss: `n / (5 n_label)`, of which `root` takes the square root.

    Args:
        counts: Training rows of each label; a label without rows counts as having one.
        how: As in `RFNetRunConfig`.

    Returns:
        float32 `[5]` in the order of `LABELS`; None where labels weigh alike.
    """
    if how == "none":
        return None
    each = torch.tensor([max(1, counts.get(label, 0)) for label in LABELS], dtype=torch.float32)
    weights = sum(counts.values()) / (len(LABELS) * each)
    return weights.sqrt() if how == "root" else weights


def titles_of(model: ModelConfig) -> Titles | None:
    """What reads a model's titles; None where it reads none."""
    if not isinstance(model, RFNetConfig) or "copy" not in modalities(model):
        return None
    if model.text.path is None:
        return Titles(model.text.max_tokens, model.text.vocabulary, None)
    return TitleEncoder(model.text).tokenize
