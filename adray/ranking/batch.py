"""The ranker's batch: impressions, the features of their distinct creatives, and what history says of both."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from adray.data.batch import ImpressionBatch, Ragged
from adray.data.batch_from_arrow import impressions_to_batch
from adray.errors import DataError
from adray.ranking.arrays import RaggedArray
from adray.ranking.catalogue import Catalogue
from adray.ranking.config import SimTierConfig
from adray.ranking.history import row_blocks
from adray.ranking.ragged import Lists
from adray.ranking.simtier import ClickedCreatives, known_clicks
from adray.ranking.sku_table import SkuTable
from adray.ranking.tables import column


@dataclass(frozen=True)
class CreativeFeatures:
    """What is known of U creatives.

    Attributes:
        ids: int64 `[U]`, hashed ids.
        elements: Hashed `slot=element` values.
        ngrams: Hashed word 1- and 2-grams of the copy.
        attributes: Hashed `field=value` of what was extracted from them.
        content: float32 `[U, content_dim]`; zeros where no vector is known.
        impressions: float32 `[U]`, exposures in the training log.
        clicks: float32 `[U]`, clicks there.
    """

    ids: Tensor
    elements: Ragged
    ngrams: Ragged
    attributes: Ragged
    content: Tensor
    impressions: Tensor
    clicks: Tensor

    def __len__(self) -> int:
        return self.ids.numel()

    def to(self, device: torch.device | str) -> CreativeFeatures:
        """Copy to a device."""
        return CreativeFeatures(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class RankingBatch:
    """n impressions with m candidates, of which U are distinct creatives.

    Attributes:
        impressions: The lists, with their row features.
        creatives: Features of the U distinct creatives; each is encoded once per batch.
        creative_index: int64 `[m]`, each candidate's row in `creatives`.
        ad_history: float32 `[n]`, the SKU's historical CTR; training rows see earlier rows only.
        clicked: What the rows' users clicked before; None for a model that does not ask.
    """

    impressions: ImpressionBatch
    creatives: CreativeFeatures
    creative_index: Tensor
    ad_history: Tensor
    clicked: ClickedCreatives | None = None

    def __len__(self) -> int:
        return len(self.impressions)

    def lists(self) -> Lists:
        """The shape of the candidate lists."""
        return Lists.from_offsets(self.impressions.candidates.offsets)

    def to(self, device: torch.device | str) -> RankingBatch:
        """Copy to a device."""
        clicked = None if self.clicked is None else self.clicked.to(device)
        moved = self.impressions.to(device), self.creatives.to(device), self.creative_index.to(device), self.ad_history.to(device)
        return RankingBatch(*moved, clicked)

    def candidate_rows(self) -> Ragged:
        """Each candidate's row in `creatives`, as lists."""
        return Ragged(self.creative_index, self.impressions.candidates.offsets)


class RankingCollate:
    """Turns Arrow rows of `impressions` into a `RankingBatch`; picklable, for a reader in any process.

    Args:
        catalogue: Creative features.
        skus: Counts of the training log.
        training: Whether rows are part of that log, so that each row may see only what came before it.
        simtier: Which clicked creatives to look up; None for a model that does not ask.
    """

    def __init__(self, catalogue: Catalogue, skus: SkuTable, *, training: bool, simtier: SimTierConfig | None = None) -> None:
        self.catalogue, self.skus, self.training, self.simtier = catalogue, skus, training, simtier

    def __call__(self, table: pa.Table) -> RankingBatch:
        """Collate n rows.

        Raises:
            DataError: If the rows lack `sku_id`, `candidates` or what SimTier reads.
        """
        batch = impressions_to_batch(table)
        if "sku_id" not in batch.ids:
            raise DataError("column 'sku_id' is missing from the impressions", "read it with the other columns")
        creatives, index = np.unique(batch.candidates.values.numpy(), return_inverse=True)
        return RankingBatch(
            batch,
            creative_features(self.catalogue, self.skus, creatives),
            torch.from_numpy(index.reshape(-1)),
            torch.from_numpy(self._history(batch, table)),
            self._clicked(batch),
        )

    def _clicked(self, batch: ImpressionBatch) -> ClickedCreatives | None:
        if self.simtier is None:
            return None
        clicks = column(batch.bags, self.simtier.column, "bag", batch)
        return known_clicks(clicks, self.simtier.max_length, self.catalogue.lookup, self.catalogue.content)

    def _history(self, batch: ImpressionBatch, table: pa.Table) -> np.ndarray:
        skus = batch.ids["sku_id"].numpy()
        if not self.training:
            return self.skus.historical_ctr(skus)
        return self.skus.past_ctr(skus, row_blocks(table, self.skus.edges))


def creative_features(catalogue: Catalogue, skus: SkuTable, creatives: np.ndarray) -> CreativeFeatures:
    """Features of hashed creative ids, int64 `[U]`; an id that the catalogue lacks is all null."""
    rows = catalogue.lookup(creatives)
    known = rows >= 0
    impressions, clicks = skus.creative_counts(creatives)
    content = np.zeros((rows.size, catalogue.content_dim), dtype=np.float32)
    content[known] = catalogue.content[rows[known]]
    return CreativeFeatures(
        ids=torch.from_numpy(creatives),
        elements=_tensors(catalogue.elements.take(rows)),
        ngrams=_tensors(catalogue.ngrams.take(rows)),
        attributes=_tensors(catalogue.attributes.take(rows)),
        content=torch.from_numpy(content),
        impressions=torch.from_numpy(impressions),
        clicks=torch.from_numpy(clicks),
    )


def _tensors(lists: RaggedArray) -> Ragged:
    return Ragged(torch.from_numpy(np.ascontiguousarray(lists.values)), torch.from_numpy(lists.offsets))
