"""How well held-out pictures and copies find each other, and whether the picture is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from adray.representation.contrastive.batch import HeldOutBatch
from adray.representation.contrastive.identity import Keys
from adray.representation.encoders.base import Encoder, truncated

_ROWS_AT_ONCE = 512


@torch.no_grad()
def judge(encoder: Encoder, batches: Iterable[HeldOutBatch], ks: Sequence[int], dims: Sequence[int]) -> dict[str, float]:
    """Retrieval among all held-out creatives.

    A creative counts as found when its own counterpart, or one with the same SKU, picture or copy, is among the first k.
    The ablation asks each picture for its creative, which is read whole, by its picture alone, by its copy alone, and whole
    but with another creative's picture: an encoder that ignores pictures scores the same with and without the exchange.

    Args:
        encoder: In evaluation mode.
        batches: All held-out creatives.
        ks: Ranks to count at.
        dims: Shorter vectors to judge too.

    Returns:
        `representation/image_to_copy/recall@k`, `representation/copy_to_image/recall@k` (also with `/dim_d`),
        `representation/ablation/{full,image,copy,shuffled}`, `representation/picture_gain`, `representation/chance@k`.
    """
    vectors, keys = _encode(encoder, batches)
    same = keys.same(keys)
    same.fill_diagonal_(True)
    metrics: dict[str, float] = {"representation/held_out": float(len(same))}
    for dim in [encoder.dim, *dims]:
        image, copy = truncated(vectors["image"], dim), truncated(vectors["copy"], dim)
        suffix = "" if dim == encoder.dim else f"/dim_{dim}"
        for k in ks:
            metrics[f"representation/image_to_copy/recall@{k}{suffix}"] = recall(image, copy, same, k)
            metrics[f"representation/copy_to_image/recall@{k}{suffix}"] = recall(copy, image, same, k)
    k = ks[0]
    metrics |= {f"representation/chance@{k}": chance(same, k) for k in ks}
    modalities = {"full": "whole", "image": "image", "copy": "copy", "shuffled": "shuffled"}
    for name, key in modalities.items():
        metrics[f"representation/ablation/{name}"] = recall(vectors["image"], vectors[key], same, k)
    metrics["representation/picture_gain"] = metrics["representation/ablation/full"] - metrics["representation/ablation/shuffled"]
    return metrics


def _encode(encoder: Encoder, batches: Iterable[HeldOutBatch]) -> tuple[Mapping[str, Tensor], Keys]:
    found: dict[str, list[Tensor]] = {name: [] for name in ("whole", "image", "copy", "shuffled")}
    keys: list[Keys] = []
    for batch in batches:
        for name, parts in found.items():
            parts.append(encoder(getattr(batch, name)).cpu())
        keys.append(batch.keys.to("cpu"))
    joined = Keys(*(torch.cat([getattr(one, name) for one in keys]) for name in ("skus", "pictures", "copies")))
    return {name: torch.cat(parts) for name, parts in found.items()}, joined


def recall(queries: Tensor, documents: Tensor, relevant: Tensor, k: int) -> float:
    """Share of queries with a relevant document among the k nearest.

    A document that scores exactly as a relevant one counts as before it, so vectors that are all equal find nothing but by k.

    Args:
        queries: float `[n, d]`, of length 1.
        documents: float `[m, d]`, of length 1.
        relevant: Bool `[n, m]`.
        k: From 1.
    """
    hits = 0
    for start in range(0, len(queries), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        scores = queries[part] @ documents.T
        best = scores.masked_fill(~relevant[part], -torch.inf).amax(1, keepdim=True)
        ahead = ((scores >= best) & ~relevant[part]).sum(1)
        hits += int((ahead < k).sum())
    return hits / max(len(queries), 1)


def chance(relevant: Tensor, k: int) -> float:
    """Expected recall of a random order: 1 - C(m - r, k) / C(m, k) for a query with r relevant of m documents."""
    m, r = relevant.shape[1], relevant.sum(1).double()
    miss = torch.ones_like(r)
    for i in range(min(k, m)):
        miss *= ((m - r - i) / (m - i)).clamp(min=0)
    return float((1 - miss).mean())
