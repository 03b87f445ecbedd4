"""FuxiCTR's training loop, layers and loaders, in its own virtualenv. Prints one JSON line.

The wheel's DCNv2 needs behaviour sequences, so the flat one is put together from FuxiCTR's own layers, as its documentation
advises for custom models.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import dataset
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from sklearn.metrics import roc_auc_score


class DCNv2(BaseModel):
    """DCN-V2, parallel structure."""

    def __init__(self, feature_map: FeatureMap, **kwargs: object) -> None:
        super().__init__(feature_map, model_id="DCNv2", gpu=-1, verbose=0, metrics=["AUC"], **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, 16)
        width = feature_map.sum_emb_out_dim()
        self.crossnet = CrossNetV2(width, 3)
        self.parallel_dnn = MLP_Block(input_dim=width, hidden_units=[512, 256, 128], hidden_activations="ReLU", output_dim=None)
        self.fc = torch.nn.Linear(width + 128, 1)
        self.compile("adam", "binary_crossentropy", lr=1e-3)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict) -> dict:
        """Score one batch."""
        start = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        last = torch.cat([self.crossnet(start), self.parallel_dnn(start)], dim=-1)
        return {"y_pred": self.output_activation(self.fc(last))}

    def train_epoch(self, data_generator: object) -> None:
        """Start the clock when the epoch begins."""
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        super().train_epoch(data_generator)

    def eval_step(self) -> None:
        """Called after the epoch's last step: stop the clock; testing is not training."""
        self.seconds, self.cpu_seconds = time.perf_counter() - self.started, time.process_time() - self.cpu_started
        self.save_weights(self.checkpoint)


def main() -> None:
    """Train one epoch and test."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        feature_map = _feature_map(folder)
        loaders = {part: _loader(feature_map, arguments.data, Path(folder), part) for part in ("train", "test")}
        model = DCNv2(feature_map, model_root=folder)
        model.fit(loaders["train"], epochs=1)
        features, labels = dataset.load(arguments.data / "test.parquet")
        scores = model.predict(loaders["test"])
    auc = float(roc_auc_score(labels, scores))
    rows = loaders["train"].num_samples
    print(json.dumps({"rows": rows, "seconds": model.seconds, "cpu_seconds": model.cpu_seconds, "auc": auc}))


def _feature_map(folder: str) -> FeatureMap:
    feature_map = FeatureMap("peers", folder)
    spec = {"type": "categorical", "source": "", "padding_idx": 0, "vocab_size": dataset.IDS + 1, "embedding_dim": 16}
    feature_map.features = OrderedDict((name, dict(spec)) for name in dataset.FIELDS)
    feature_map.labels, feature_map.default_emb_dim = ["clicked"], 16
    feature_map.num_fields, feature_map.total_features = len(dataset.FIELDS), len(dataset.FIELDS) * (dataset.IDS + 1)
    feature_map.set_column_index()
    (Path(folder) / "peers").mkdir()
    return feature_map


def _loader(feature_map: FeatureMap, data: Path, folder: Path, part: str) -> object:
    # On one core its in-memory loader without a worker process is its fastest (a worker costs it 5 %).
    features, clicks = dataset.load(data / f"{part}.parquet")
    path = folder / f"{part}.npz"
    np.savez(path, clicked=clicks.astype(np.int64), **{name: features[:, i] for i, name in enumerate(dataset.FIELDS)})
    train = part == "train"
    parts = RankDataLoader(
        feature_map, stage=part, **{f"{part}_data": str(path)}, batch_size=1024, shuffle=train, data_format="npz", num_workers=0
    )
    return parts[0] if train else parts


if __name__ == "__main__":
    main()
