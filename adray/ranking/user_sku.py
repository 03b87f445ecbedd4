"""The heavy half: how likely is this user to click on this SKU, whatever the creative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adray.data.batch import Ragged
from adray.ranking.config import HeavyConfig, HistoryConfig
from adray.ranking.layers import AttentionBlock, CrossLayer, relu_mlp
from adray.ranking.ragged import Lists
from adray.ranking.tables import FieldTables, Rows, column


@dataclass(frozen=True)
class HeavyOutput:
    """What the heavy half says of n (user, SKU) rows.

    Attributes:
        logit: float32 `[n]`, click logit of the ad.
        hidden: `[n, deep[-1]]`, the trunk's last hidden layer.
    """

    logit: Tensor
    hidden: Tensor


class UserSkuRanker(nn.Module):
    """Hashed embeddings, a behaviour Transformer with the SKU as target, and a parallel DCN-V2 trunk.

    Args:
        config: Fields and sizes.
        boundaries: Bucket boundaries of the number columns.
        start_logit: Where click logits start, e.g. the logit of the global CTR.
    """

    def __init__(self, config: HeavyConfig, boundaries: Mapping[str, np.ndarray], start_logit: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.tables = FieldTables(config.fields, config.dim, boundaries)
        width = self.tables.width
        self.history: BehaviourSequence | None = None
        if config.history is not None:
            target = next(f for f in config.sku if f.name == config.history.target)
            self.history = BehaviourSequence(config.history, target.dim or config.dim)
            width += target.dim or config.dim
        self.cross = nn.ModuleList(CrossLayer(width, config.cross_rank) for _ in range(config.cross_layers))
        self.deep = relu_mlp(width, config.deep, config.dropout)
        self.out = nn.Linear(config.deep[-1] + (width if config.cross_layers else 0), 1)
        nn.init.constant_(self.out.bias, start_logit)

    @property
    def hidden_width(self) -> int:
        """Width of `HeavyOutput.hidden`."""
        return self.config.deep[-1]

    def forward(self, rows: Rows) -> HeavyOutput:
        """Score n rows.

        Raises:
            DataError: If a configured field is not among the columns.
        """
        start = self.tables(rows)
        if self.history is not None:
            start = torch.cat([start, self.history(rows, self.tables)], dim=1)
        hidden = self.deep(start)
        crossed = start
        for layer in self.cross:
            crossed = layer(start, crossed)
        last = torch.cat([crossed, hidden], dim=1) if len(self.cross) else hidden
        return HeavyOutput(self.out(last).squeeze(1).float(), hidden)


class BehaviourSequence(nn.Module):
    """Reads the SKUs that a user clicked before; the scored SKU is the last token and its output is the result.

    Args:
        config: Column, length and sizes.
        width: Width of the target's embedding, which is the model width.
    """

    def __init__(self, config: HistoryConfig, width: int) -> None:
        super().__init__()
        self.config = config
        # Place 0 is the target, place i the i-th most recent click.
        self.place = nn.Parameter(torch.randn(config.max_length + 1, width) * 0.02)
        self.blocks = nn.ModuleList(AttentionBlock(width, config.heads, config.hidden) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, rows: Rows, tables: FieldTables) -> Tensor:
        """Summarise n histories for their targets, `[n, width]`."""
        history = column(rows.bags, self.config.name, "bag", rows)
        target = column(rows.ids, self.config.target, "id", rows)
        hashes, there = pad_latest(history, self.config.max_length)
        hashes = torch.cat([hashes, target.unsqueeze(1)], dim=1)
        mask = torch.cat([there, there.new_ones(len(there), 1)], dim=1)[:, None, None, :]
        place = torch.arange(hashes.shape[1] - 1, -1, -1, device=hashes.device)
        tokens = tables.embed_ids(self.config.target, hashes) + self.place[place]
        # Only the target's output is used, so the last block asks for nothing else.
        for block in self.blocks[:-1]:
            tokens = block(tokens, mask)
        return self.norm(self.blocks[-1](tokens, mask, queries=1)[:, 0])


def pad_latest(history: Ragged, max_length: int) -> tuple[Tensor, Tensor]:
    """The latest items of each list, right-aligned: int64 `[n, t]` and bool `[n, t]` for which exist.

    t is the longest list of the batch, at most `max_length`.
    """
    lists = Lists.from_offsets(history.offsets)
    longest = min(int(lists.lengths.max()) if len(lists) else 0, max_length)
    from_end = history.offsets[1:][lists.segments] - torch.arange(history.values.numel(), device=history.values.device)
    kept = from_end <= longest
    place = longest - from_end[kept]
    hashes = history.values.new_zeros(len(lists), longest)
    there = torch.zeros(len(lists), longest, dtype=torch.bool, device=hashes.device)
    hashes[lists.segments[kept], place] = history.values[kept]
    there[lists.segments[kept], place] = True
    return hashes, there
