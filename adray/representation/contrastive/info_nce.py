"""InfoNCE over the rows of all ranks, in both directions, at several vector lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adray.representation.contrastive.gather import Ranks, gather_rows, ranks_of
from adray.representation.contrastive.identity import Keys
from adray.representation.encoders.base import truncated


@dataclass(frozen=True)
class Pairs:
    """This rank's n pairs as vectors.

    Attributes:
        queries: float `[n, d]` of length 1.
        documents: float `[n, d]` of length 1; row i belongs to query i.
        keys: Identities of the pairs; None masks nothing.
        hard: float `[n * h, d]`, h further wrong documents of each query, or None.
        hard_keys: Identities of the hard negatives.
        log_frequency: float `[n, 2]`, log of how often each query and each document occurs among all; None corrects nothing.
    """

    queries: Tensor
    documents: Tensor
    keys: Keys | None = None
    hard: Tensor | None = None
    hard_keys: Keys | None = None
    log_frequency: Tensor | None = None


@dataclass(frozen=True)
class Settings:
    """How the loss is computed.

    Attributes:
        margin: A column that scores above the positive by more than this is taken for a false negative; None never.
        both: Average query -> document and document -> query; else the first alone.
        dims: Vector lengths that are averaged over (Matryoshka); empty: the full one.
    """

    margin: float | None = 0.1
    both: bool = True
    dims: Sequence[int] = ()


@dataclass(frozen=True)
class Outcome:
    """What the loss was made of.

    Attributes:
        loss: Scalar; its mean over ranks is the mean over all rows.
        rows: float `[n]`, each row's loss at the full length, detached.
        negatives: Mean number of columns a row is really compared with, beside its own.
        correct: Share of rows whose own column scores highest at the full length.
        chance: The loss of vectors that are all equal.
        floor: The loss of perfect vectors: positives at cosine 1, all others orthogonal.
    """

    loss: Tensor
    rows: Tensor
    negatives: Tensor
    correct: Tensor
    chance: Tensor
    floor: Tensor


def info_nce(pairs: Pairs, temperature: Tensor | float, settings: Settings) -> Outcome:
    r"""InfoNCE (van den Oord et al. 2018) with the columns of all ranks; all ranks call it together.

    .. math:: \ell_i = -\log \frac{e^{s_{ii}/\tau - c_i}}{\sum_j e^{s_{ij}/\tau - c_j}}

    over the columns that are no false negatives, where c is the log of how often a column is expected among the batch's rows
    (the sampled-softmax correction of Yi et al. 2019), which is 0 for a hard negative: it is there for certain. Hard negatives
    are columns of the query -> document direction; they are gathered as a group of their own after all positives, so that a
    row's own column is at (rows of lower ranks) + i whatever their number.

    Args:
        pairs: This rank's vectors.
        temperature: tau.
        settings: Masking, directions, lengths.
    """
    ranks = ranks_of(len(pairs.queries), pairs.queries.device)
    everyone = _gathered(pairs, ranks)
    dims = list(settings.dims) or [pairs.queries.shape[1]]
    full = max(range(len(dims)), key=dims.__getitem__)
    results = [_at_length(pairs, everyone, ranks, dim, temperature, settings) for dim in dims]
    losses = torch.stack([one.loss for one in results]).mean()
    shown = results[full]
    # Ranks with more rows weigh more, so that the mean over ranks is the mean over rows.
    weight = len(ranks.counts) * len(pairs.queries) / ranks.total
    return Outcome(losses * weight, shown.rows, shown.negatives, shown.correct, shown.chance, shown.floor)


def _gathered(pairs: Pairs, ranks: Ranks) -> Pairs:
    return Pairs(
        gather_rows(pairs.queries, ranks),
        gather_rows(pairs.documents, ranks),
        pairs.keys.gathered(ranks) if pairs.keys is not None else None,
        gather_rows(pairs.hard, ranks) if pairs.hard is not None else None,
        pairs.hard_keys.gathered(ranks) if pairs.hard_keys is not None else None,
        gather_rows(pairs.log_frequency, ranks) if pairs.log_frequency is not None else None,
    )


def _at_length(pairs: Pairs, everyone: Pairs, ranks: Ranks, dim: int, temperature: Tensor | float, settings: Settings) -> Outcome:
    forward = _direction(pairs, everyone, ranks, dim, temperature, settings, backwards=False)
    if not settings.both:
        return forward
    back = _direction(pairs, everyone, ranks, dim, temperature, settings, backwards=True)
    names = ("loss", "rows", "negatives", "correct", "chance", "floor")
    return Outcome(**{name: (getattr(forward, name) + getattr(back, name)) / 2 for name in names})


def _direction(
    pairs: Pairs, everyone: Pairs, ranks: Ranks, dim: int, temperature: Tensor | float, settings: Settings, *, backwards: bool
) -> Outcome:
    rows, columns = (pairs.documents, everyone.queries) if backwards else (pairs.queries, everyone.documents)
    keys = everyone.keys
    if not backwards and everyone.hard is not None:
        columns = torch.cat([columns, everyone.hard])
        if keys is not None and everyone.hard_keys is not None:
            keys = _joined(keys, everyone.hard_keys)
    scores = truncated(rows, dim) @ truncated(columns, dim).T
    own = ranks.offset + torch.arange(len(rows), device=rows.device)
    wrong = false_negatives(scores, own, pairs.keys, keys, settings.margin)
    logits = scores / temperature
    if everyone.log_frequency is not None:
        # Times the batch: on its own, columns drawn by frequency would not notice the factor, but hard negatives stand beside them.
        correction = everyone.log_frequency[:, 0 if backwards else 1] + math.log(ranks.total)
        logits = logits - F.pad(correction, (0, logits.shape[1] - len(correction)))
    logits = logits.masked_fill(wrong, -torch.inf)
    losses = F.cross_entropy(logits, own, reduction="none")
    compared = (~wrong).sum(1).float()
    inverse = 1.0 / float(torch.as_tensor(temperature).detach())
    return Outcome(
        losses.mean(),
        losses.detach(),
        (compared - 1).mean(),
        (logits.detach().argmax(1) == own).float().mean(),
        compared.log().mean(),
        torch.log1p((compared - 1) * math.exp(-inverse)).mean(),
    )


def false_negatives(scores: Tensor, own: Tensor, rows: Keys | None, columns: Keys | None, margin: float | None) -> Tensor:
    """Columns that are not to be pushed away: the row's own thing in another guise. A row's own column is never one.

    Args:
        scores: Cosines `[n, m]`.
        own: int64 `[n]`, each row's own column.
        rows: Identities of the rows; None compares none.
        columns: Identities of the columns, of the first ones if fewer than m.
        margin: Also mask what scores higher than the own column by more than this (Qwen3-VL-Embedding uses 0.1).

    Returns:
        Bool `[n, m]`.
    """
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    if rows is not None and columns is not None:
        mask[:, : len(columns.skus)] |= rows.same(columns)
    if margin is not None:
        values = scores.detach()
        mask |= values > values.gather(1, own[:, None]) + margin
    return mask.scatter(1, own[:, None], False)


def _joined(first: Keys, second: Keys) -> Keys:
    return Keys(*(torch.cat([getattr(first, name), getattr(second, name)]) for name in ("skus", "pictures", "copies")))
