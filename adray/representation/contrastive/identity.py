"""What makes two pairs the same thing: keys by which false negatives are found."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xxhash
from torch import Tensor

from adray.data.hashing import hash_strings
from adray.representation.contrastive.gather import Ranks, gather_rows
from adray.representation.creatives import Creatives


@dataclass(frozen=True)
class Keys:
    """Identities of n pairs of creatives as int64; 0 stands for something that is not there and equals nothing.

    Attributes:
        skus: `[n]`.
        pictures: `[n, k]`, hashes of the pictures of the k creatives a pair is made of.
        copies: `[n, k]`, hashes of their normalised copies.
    """

    skus: Tensor
    pictures: Tensor
    copies: Tensor

    def to(self, device: torch.device | str) -> Keys:
        """Copy to a device."""
        return Keys(self.skus.to(device), self.pictures.to(device), self.copies.to(device))

    def gathered(self, ranks: Ranks) -> Keys:
        """Those of all ranks, in rank order."""
        return Keys(*(gather_rows(values, ranks) for values in (self.skus, self.pictures, self.copies)))

    def same(self, others: Keys) -> Tensor:
        """Bool `[n, m]`: same SKU, a picture in common, or a copy in common."""
        result = (self.skus[:, None] == others.skus) & (self.skus[:, None] != 0)
        for mine, theirs in ((self.pictures, others.pictures), (self.copies, others.copies)):
            for column in mine.T:
                hit = column[:, None, None] == theirs
                result |= (hit & (column[:, None, None] != 0)).any(2)
        return result


def creative_keys(creatives: Creatives) -> Mapping[str, np.ndarray]:
    """Identities of creatives, the same in every process.

    Returns:
        int64 `[n]` each: `sku`, `picture` (hash of its pixels, 0 without one), `copy` (hash of its normalised text, 0 if blank).
    """
    pictures = [None if p is None else f"{p.shape} {xxhash.xxh3_64_hexdigest(p.tobytes())}" for p in creatives.pictures]
    copies = [normalised(copy) or None for copy in creatives.copies]
    return {"sku": hash_strings(list(creatives.sku_ids)), "picture": hash_strings(pictures), "copy": hash_strings(copies)}


def normalised(copy: str) -> str:
    """Copy without differences that do not matter: Unicode forms, case, and runs of blanks."""
    return " ".join(unicodedata.normalize("NFKC", copy).casefold().split())
