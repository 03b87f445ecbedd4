"""adray's heavy half through its own trainer, from the Parquet file. Prints one JSON line."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import dataset

from adray.data.stream import TableStream, iterate
from adray.ranking.batch import RankingBatch, RankingCollate
from adray.ranking.catalogue import Catalogue, build_catalogue
from adray.ranking.config import FeatureConfig, HeavyConfig, RankerModelConfig
from adray.ranking.joint import JointRanker
from adray.ranking.sku_table import SkuTable, build_sku_table
from adray.training.config import TrainingConfig
from adray.training.fit import fit

_COLUMNS = ["sku_id", "candidates", "exposed", "clicked", "timestamp", *dataset.FIELDS]


class TimedRanker(JointRanker):
    """Notes the processor seconds from the first step's beginning to the last one's end, over all threads."""

    started: float | None = None
    cpu_seconds: float = 0.0

    def before_step(self, progress: float) -> None:
        """Start the clock once."""
        if TimedRanker.started is None:
            TimedRanker.started = time.process_time()
        super().before_step(progress)

    def after_step(self, progress: float) -> None:
        """Read the clock."""
        super().after_step(progress)
        TimedRanker.cpu_seconds = time.process_time() - (TimedRanker.started or 0.0)


class PeerTask:
    """The recipe: 26 id fields, DCN-V2, no light half."""

    def __init__(self, data: Path, catalogue: Catalogue, skus: SkuTable, model: RankerModelConfig, seed: int) -> None:
        self.data, self.catalogue, self.skus, self.model, self.seed = data, catalogue, skus, model, seed

    def build_module(self) -> JointRanker:
        """The model."""
        return TimedRanker(self.model, self.catalogue, self.skus)

    def train_source(self, batch_size: int, micro_batch_size: int) -> TableStream[RankingBatch]:
        """The training rows, with the default shuffle."""
        collate = RankingCollate(self.catalogue, self.skus, training=True)
        sizes = {"batch_size": batch_size, "micro_batch_size": micro_batch_size}
        return TableStream(str(self.data / "train.parquet"), seed=self.seed, columns=_COLUMNS, collate=collate, **sizes)

    def eval_batches(self) -> Iterable[RankingBatch]:
        """The test rows."""
        collate = RankingCollate(self.catalogue, self.skus, training=False)
        return iterate(str(self.data / "test.parquet"), 4096, _COLUMNS, collate)


def main() -> None:
    """Train one epoch and test."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows-per-field", type=int, default=2 * dataset.IDS)
    parser.add_argument("--precision", choices=["fp32", "bf16_mixed"], default="bf16_mixed")
    arguments = parser.parse_args()
    user, sku = (
        [FeatureConfig(name=name, rows=arguments.rows_per_field) for name in dataset.FIELDS if name.startswith(side)]
        for side in ("user", "sku")
    )
    model = RankerModelConfig(heavy=HeavyConfig(user=user, sku=sku, dim=16, cross_layers=3, deep=[512, 256, 128]), light=None)
    training = TrainingConfig(batch_size=1024, lr=1e-3, optimizer="adamw", precision=arguments.precision, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        catalogue = build_catalogue(str(arguments.data / "creatives.parquet"), Path(folder) / "catalogue")
        skus = build_sku_table(str(arguments.data / "train.parquet"), Path(folder) / "skus", model)
        task = PeerTask(arguments.data, catalogue, skus, model, arguments.seed)
        result = fit(task, training, run_folder=Path(folder) / "run", run_name="peer", seed=arguments.seed, quiet=True)
        rows = task.train_source(1024, 1024).rows
    # Filling the first shuffle window counts as training; the checkpoint at the epoch's end does not, as for the peers.
    seconds = result.seconds["first_batch"] + result.seconds["train"] - result.seconds["checkpoint"]
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu_seconds": TimedRanker.cpu_seconds, "auc": result.metrics["ranker/ad_auc"]}))


if __name__ == "__main__":
    main()
