"""A ranker's training job: which tables, which features, which batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adray.data.config import DataConfig
from adray.data.parquet import open_parquet
from adray.data.stream import TableStream, iterate
from adray.data.tables import Tables
from adray.errors import DataError
from adray.ranking.batch import RankingBatch, RankingCollate
from adray.ranking.catalogue import Catalogue, build_catalogue
from adray.ranking.config import RankerModelConfig
from adray.ranking.joint import JointRanker
from adray.ranking.sku_table import SkuTable, build_sku_table

_LOG_COLUMNS = ("request_id", "user_id", "sku_id", "candidates", "exposed", "clicked", "timestamp")


@dataclass(frozen=True)
class Features:
    """Where the features that go beside the impressions lie.

    Attributes:
        catalogue: Folder of the creatives' features.
        skus: Folder of the training log's counts and SKU features.
    """

    catalogue: Path
    skus: Path

    def collate(self, model: RankerModelConfig, *, training: bool) -> RankingCollate:
        """Turns rows into the model's batches."""
        simtier = None if model.light is None else model.light.simtier
        return RankingCollate(Catalogue.load(self.catalogue), SkuTable.load(self.skus), training=training, simtier=simtier)


def build_features(tables: Tables, model: RankerModelConfig, folder: Path) -> Features:
    """Read the creatives and the training log once each, and write what training and evaluation look up.

    Args:
        tables: The run's tables.
        model: Names the features.
        folder: Where they go.

    Raises:
        DataError: If there are no creatives, or a table cannot be read.
    """
    if tables.creatives is None:
        raise DataError("the data has no creatives table", "set data.creatives")
    features = Features(folder / "catalogue", folder / "skus")
    build_catalogue(tables.creatives, features.catalogue, tables.embeddings, tables.attributes)
    build_sku_table(tables.train, features.skus, model)
    return features


@dataclass(frozen=True)
class RankerTask:
    """Builds the model and its batches in every training process; a `training.module.TrainTask`.

    Attributes:
        model: The model.
        data: How tables are streamed.
        tables: The tables.
        features: What is looked up beside them.
        seed: Seed of the shuffle.
        batch_rows: Lists per batch in evaluation.
    """

    model: RankerModelConfig
    data: DataConfig
    tables: Tables
    features: Features
    seed: int
    batch_rows: int

    def build_module(self) -> JointRanker:
        """Build the joint model; it takes the tables' lineage into its artifacts."""
        catalogue, skus = Catalogue.load(self.features.catalogue), SkuTable.load(self.features.skus)
        return JointRanker(self.model, catalogue, skus, lineage={"tables": self.tables.lineage()})

    def train_source(self, batch_size: int, micro_batch_size: int) -> TableStream[RankingBatch]:
        """The training lists, in an order that any number of workers can resume."""
        return TableStream(
            self.tables.train,
            seed=self.seed,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            collate=self.features.collate(self.model, training=True),
            lanes=self.data.lanes,
            shuffle_rows=self.data.shuffle_rows,
            columns=columns(self.model, self.tables.train),
            reader=self.data.reader,
        )

    def eval_batches(self) -> Iterable[RankingBatch] | None:
        """The held-out lists."""
        if self.tables.holdout is None:
            return None
        return lists_of(self.tables.holdout, self.model, self.features, self.batch_rows)


def lists_of(path: str, model: RankerModelConfig, features: Features, batch_rows: int) -> Iterable[RankingBatch]:
    """All lists of a table in file order, as batches for evaluation."""
    return iterate(path, batch_rows, columns(model, path), features.collate(model, training=False))


def columns(model: RankerModelConfig, path: str) -> list[str]:
    """The columns of a table that the model and its metrics read.

    Raises:
        DataError: If a feature of the model is no column of the table.
    """
    there = set(open_parquet(path).schema.names)
    missing = [name for name in model.columns() if name not in there]
    if missing:
        raise DataError(f"table {path} has no column {missing[0]!r}, a field of the model", "take it out of the model or add the column")
    return [name for name in dict.fromkeys([*_LOG_COLUMNS, *model.columns()]) if name in there]
