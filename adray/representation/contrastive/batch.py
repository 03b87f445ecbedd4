"""Batches of pairs: rows of the pairs' table read, hidden as the view asks, and prepared chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from adray.data.bad_rows import BadRowsError
from adray.representation.contrastive.identity import Keys, creative_keys
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.reading import creatives_from_arrow

VIEWS = ("image_copy", "same_sku")


@dataclass(frozen=True)
class PairBatch:
    """n pairs, prepared.

    Attributes:
        queries: Chunks of queries, in row order.
        documents: Chunks of documents, in row order.
        hard: Chunks of h hard negatives per row, in row order; empty without.
        keys: Identities of the pairs.
        hard_keys: Identities of the hard negatives; None without.
        view: int64 `[n]`, index into `VIEWS`.
        log_frequency: float32 `[n, 2]`, of query and document.
    """

    queries: Sequence[EncoderInputs]
    documents: Sequence[EncoderInputs]
    hard: Sequence[EncoderInputs]
    keys: Keys
    hard_keys: Keys | None
    view: Tensor
    log_frequency: Tensor

    def __len__(self) -> int:
        return len(self.view)

    def to(self, device: Any) -> PairBatch:
        """Copy to a device."""
        queries, documents, hard = ([chunk.to(device) for chunk in chunks] for chunks in (self.queries, self.documents, self.hard))
        return PairBatch(
            queries,
            documents,
            hard,
            self.keys.to(device),
            self.hard_keys.to(device) if self.hard_keys is not None else None,
            self.view.to(device),
            self.log_frequency.to(device),
        )


@dataclass(frozen=True)
class HeldOutBatch:
    """n held-out creatives, each as a whole, with its picture alone, with its copy alone, and with another's picture."""

    whole: EncoderInputs
    image: EncoderInputs
    copy: EncoderInputs
    shuffled: EncoderInputs
    keys: Keys

    def __len__(self) -> int:
        return len(self.whole)

    def to(self, device: Any) -> HeldOutBatch:
        """Copy to a device."""
        whole, image, copy, shuffled = (part.to(device) for part in (self.whole, self.image, self.copy, self.shuffled))
        return HeldOutBatch(whole, image, copy, shuffled, self.keys.to(device))


@dataclass(frozen=True)
class PairCollate:
    """Turns rows of the pairs' table into training batches.

    Attributes:
        encoder: Prepares creatives; its weights are not used.
        chunk_rows: Rows of a chunk; 0 makes one chunk.
        picture_side: Pictures are decoded at about this side.
    """

    encoder: Encoder
    chunk_rows: int
    picture_side: int

    def __call__(self, rows: pa.Table) -> PairBatch:
        """Read and prepare.

        Raises:
            BadRowsError: If pictures cannot be decoded, or a row has nothing to read.
        """
        views = rows.column("view").to_pylist()
        queries, documents = (read_creatives(rows, name, self.picture_side) for name in ("query", "document"))
        keys = pair_keys([queries, documents])
        alone = np.array([view == "image_copy" for view in views])
        hard = self._hard(rows)
        log_frequency = np.stack([rows.column(f"{name}_log_frequency").to_numpy() for name in ("query", "document")], axis=1)
        return PairBatch(
            self._chunks(without_copy(queries, alone)),
            self._chunks(without_pictures(documents, alone)),
            self._chunks(hard) if hard is not None else [],
            keys,
            pair_keys([hard, hard]) if hard is not None else None,
            torch.tensor([VIEWS.index(view) for view in views]),
            torch.from_numpy(log_frequency.astype(np.float32)),
        )

    def _hard(self, rows: pa.Table) -> Creatives | None:
        lists = rows.column("hard").combine_chunks()
        lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
        each = len(lists.flatten()) // max(len(lists), 1)
        if not each:
            return None
        table = pa.table({"hard": lists.flatten()})
        read = read_creatives(table, "hard", self.picture_side, rows_each=each)
        # A hard negative is read as the document that it stands beside.
        alone = np.repeat([view == "image_copy" for view in rows.column("view").to_pylist()], each)
        return without_pictures(read, alone)

    def _chunks(self, creatives: Creatives) -> list[EncoderInputs]:
        step = self.chunk_rows or len(creatives)
        return [self.encoder.prepare(creatives[start : start + step]) for start in range(0, len(creatives), step)]


@dataclass(frozen=True)
class HeldOutCollate:
    """Turns rows of the held-out table into evaluation batches.

    Attributes:
        encoder: Prepares creatives.
        picture_side: Pictures are decoded at about this side.
    """

    encoder: Encoder
    picture_side: int

    def __call__(self, rows: pa.Table) -> HeldOutBatch:
        """Read and prepare; pictures are exchanged within the batch.

        Raises:
            BadRowsError: If pictures cannot be decoded.
        """
        creatives = read_creatives(rows, "query", self.picture_side)
        every = np.ones(len(creatives), bool)
        # By half the batch: neighbours in a table often are of one SKU.
        half = max(len(creatives) // 2, 1)
        rotated = [*creatives.pictures[half:], *creatives.pictures[:half]]
        prepare = self.encoder.prepare
        return HeldOutBatch(
            whole=prepare(creatives),
            image=prepare(without_copy(creatives, every)),
            copy=prepare(without_pictures(creatives, every)),
            shuffled=prepare(replace(creatives, pictures=rotated)),
            keys=pair_keys([creatives]),
        )


def read_creatives(rows: pa.Table, column: str, picture_side: int, rows_each: int = 1) -> Creatives:
    """The creatives in a struct column.

    Args:
        rows: The table.
        column: Its name.
        picture_side: Shorter side wanted.
        rows_each: Structs that belong to one row of what is collated, to name that row when one is bad.

    Raises:
        BadRowsError: If some cannot be used.
    """
    structs = rows.column(column)
    flat = pa.table({field.name: pa.compute.struct_field(structs, field.name) for field in structs.type})
    creatives, lost = creatives_from_arrow(flat, at_least=picture_side)
    if lost:
        raise BadRowsError([(row // rows_each, f"{column}: {reason}") for row, reason in lost])
    return creatives


def pair_keys(sides: Sequence[Creatives]) -> Keys:
    """Identities of pairs made of creatives; all sides are of the first one's SKU."""
    keys = [creative_keys(side) for side in sides]
    pictures, copies = (torch.from_numpy(np.stack([side[name] for side in keys], axis=1)) for name in ("picture", "copy"))
    return Keys(torch.from_numpy(keys[0]["sku"]), pictures, copies)


def without_copy(creatives: Creatives, rows: np.ndarray) -> Creatives:
    """The creatives with the copy of some rows (bool `[n]`) hidden."""
    return replace(creatives, copies=["" if hide else copy for copy, hide in zip(creatives.copies, rows, strict=True)])


def without_pictures(creatives: Creatives, rows: np.ndarray) -> Creatives:
    """The creatives with the picture of some rows (bool `[n]`) hidden."""
    return replace(creatives, pictures=[None if hide else picture for picture, hide in zip(creatives.pictures, rows, strict=True)])
