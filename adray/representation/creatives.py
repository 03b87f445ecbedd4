"""Creatives as an encoder takes them: decoded pictures beside their copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Creatives:
    """n creatives in memory.

    Attributes:
        creative_ids: n ids.
        sku_ids: n ids of their SKUs.
        pictures: n pictures, uint8 `[height, width, 3]` (RGB, any size), or None where a creative has none.
        copies: n texts; empty where a creative has none.
    """

    creative_ids: Sequence[str]
    sku_ids: Sequence[str]
    pictures: Sequence[np.ndarray | None]
    copies: Sequence[str]

    def __post_init__(self) -> None:
        sizes = {len(self.creative_ids), len(self.sku_ids), len(self.pictures), len(self.copies)}
        if len(sizes) != 1:
            raise ValueError(f"columns of {sorted(sizes)} rows do not belong together")

    def __len__(self) -> int:
        return len(self.creative_ids)

    def __getitem__(self, rows: slice) -> Creatives:
        return Creatives(self.creative_ids[rows], self.sku_ids[rows], self.pictures[rows], self.copies[rows])
