"""Cutting the joint model into two artifacts: `ranker.light` and `ranker.heavy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from adray.artifact import writing_artifact
from adray.ranking import arrays
from adray.ranking.arrays import RaggedArray
from adray.ranking.batch import creative_features
from adray.ranking.config import FeatureConfig
from adray.ranking.sku_table import SkuTable, save_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from adray.ranking.creative import CreativeRanker
    from adray.ranking.joint import JointRanker

LIGHT_KIND = "ranker.light"
HEAVY_KIND = "ranker.heavy"
_ENCODE_ROWS = 16_384


def export_light(
    model: JointRanker, folder: str | Path, metrics: Mapping[str, float] | None = None, lineage: Mapping[str, Any] | None = None
) -> None:
    """Write the light half and its store: every creative's vector, grouped by SKU, and each SKU's features and history.

    A half with SimTier takes every creative's content vector along, to compare candidates with what a user clicked.

    Args:
        model: The trained model.
        folder: The artifact's folder; replaced as a whole.
        metrics: Figures to keep with it.
        lineage: Where it came from.
    """
    assert model.light is not None, "the model has no light half"
    catalogue, skus = model.catalogue, model.skus
    order = np.lexsort((catalogue.creatives, catalogue.skus))
    sku_hashes, first = np.unique(catalogue.skus[order], return_index=True)
    offsets = np.append(first, order.size).astype(np.int64)
    config = {"model": model.config.model_dump(mode="json"), "content_dim": catalogue.content_dim, "global_ctr": skus.global_ctr}
    with writing_artifact(folder, LIGHT_KIND, config, metrics, lineage) as partial:
        _save_module(model.light, partial)
        arrays.save(partial, "skus", sku_hashes)
        arrays.save(partial, "sku_offsets", offsets)
        arrays.save(partial, "sku_names", catalogue.sku_names.take(order[first]))
        arrays.save(partial, "creatives", np.ascontiguousarray(catalogue.creatives[order]))
        arrays.save(partial, "names", catalogue.names.take(order))
        arrays.save(partial, "history", skus.historical_ctr(sku_hashes))
        _save_sku_fields(skus, sku_hashes, model.light.config.sku, partial)
        _write_vectors(model.light, model, order, partial)
        if model.light.config.simtier is not None:
            _write_content(catalogue.content, order, partial)
            arrays.save(partial, "by_id", np.argsort(catalogue.creatives[order]))


def export_heavy(
    model: JointRanker, folder: str | Path, metrics: Mapping[str, float] | None = None, lineage: Mapping[str, Any] | None = None
) -> None:
    """Write the heavy half and the features of every SKU of the training log; arguments as for `export_light`."""
    assert model.heavy is not None, "the model has no heavy half"
    config = {"model": model.config.model_dump(mode="json"), "global_ctr": model.skus.global_ctr}
    with writing_artifact(folder, HEAVY_KIND, config, metrics, lineage) as partial:
        _save_module(model.heavy, partial)
        arrays.save(partial, "skus", np.ascontiguousarray(model.skus.skus))
        arrays.save(partial, "sku_names", model.skus.names)
        _save_sku_fields(model.skus, model.skus.skus, model.heavy.config.sku, partial)


def _save_module(module: nn.Module, folder: Path) -> None:
    tensors = {
        name: (value.float() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors")


def _save_sku_fields(skus: SkuTable, hashes: np.ndarray, fields: list[FeatureConfig], folder: Path) -> None:
    values = skus.values(np.ascontiguousarray(hashes))
    columns: dict[str, np.ndarray | RaggedArray] = {}
    for one in fields:
        if one.name == "sku_id":
            continue
        if one.kind == "bag":
            lists = values.bags[one.name]
            columns[one.name] = RaggedArray(lists.values.numpy(), lists.offsets.numpy())
        else:
            columns[one.name] = (values.ids if one.kind == "id" else values.numbers)[one.name].numpy()
    save_fields(folder, columns)


def _write_vectors(light: CreativeRanker, model: JointRanker, order: np.ndarray, folder: Path) -> None:
    """Encode every creative once, in chunks, straight into the file that serving maps."""
    shape = (order.size, light.encoder.width)
    if order.size == 0:
        arrays.save(folder, "vectors", np.zeros(shape, np.float32))
        return
    out = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    device = next(light.parameters()).device
    training = light.training
    light.eval()
    with torch.no_grad():
        for start in range(0, order.size, _ENCODE_ROWS):
            hashes = np.ascontiguousarray(model.catalogue.creatives[order[start : start + _ENCODE_ROWS]])
            features = creative_features(model.catalogue, model.skus, hashes).to(device)
            out[start : start + hashes.size] = light.encoder(features).float().cpu().numpy()
    light.train(training)
    out.flush()


def _write_content(content: np.ndarray, order: np.ndarray, folder: Path) -> None:
    """Write the content vectors float16 `[C, content_dim]` in the store's order, in chunks."""
    if order.size == 0:
        arrays.save(folder, "content", np.zeros((0, content.shape[1]), np.float16))
        return
    out = np.lib.format.open_memmap(folder / "content.npy", mode="w+", dtype=np.float16, shape=(order.size, content.shape[1]))
    for start in range(0, order.size, _ENCODE_ROWS):
        out[start : start + _ENCODE_ROWS] = content[order[start : start + _ENCODE_ROWS]]
    out.flush()
