"""Vectors of several augmented views of each creative, made once by a frozen encoder: what adapters are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.files import replacing_folder
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.towers import square
from adray.representation.moco.batches import ViewBatch
from adray.representation.picture_folder import creatives_table
from adray.representation.reading import creatives_from_arrow
from adray.representation.views.config import AugmentationConfig
from adray.representation.views.keyed import Keyed
from adray.representation.views.pictures import picture_view


@dataclass(frozen=True)
class VectorStore:
    """n creatives, each with V vectors.

    Attributes:
        vectors: float16 `[n, V, d]`, memory-mapped; the first is that of the creative as it is.
        ids: int64 `[n]`, hashed creative ids.
        skus: int64 `[n]`, hashed SKU ids.
    """

    vectors: np.ndarray
    ids: np.ndarray
    skus: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def load(folder: str | Path) -> VectorStore:
        """Open a store that `write_vectors` wrote."""
        return VectorStore(
            *(np.load(Path(folder) / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("vectors", "ids", "skus"))
        )


def write_vectors(folder: Path, vectors: np.ndarray, ids: np.ndarray, skus: np.ndarray) -> None:
    """Write a store; it appears when it is complete."""
    with replacing_folder(folder) as partial:
        for name, array in (("vectors", vectors.astype(np.float16)), ("ids", ids), ("skus", skus)):
            np.save(partial / f"{name}.npy", array, allow_pickle=False)


def augmented(creatives: Creatives, views: AugmentationConfig, seed: int, epoch: int, view: int, size: int) -> Creatives:
    """The same creatives with their pictures changed as one view of an epoch is; `size` is the side of the new pictures.

    What an encoder's own `prepare` reads afterwards, so that any encoder can be given views.
    """
    rows = [i for i, picture in enumerate(creatives.pictures) if picture is not None]
    if not rows:
        return creatives
    side = -(-size * 9 // 8)
    originals = [picture for picture in creatives.pictures if picture is not None]
    squares = torch.from_numpy(np.stack([square(picture, side) for picture in originals]))
    sizes = torch.tensor([picture.shape[:2] for picture in originals])
    ids = torch.from_numpy(hash_strings(list(creatives.creative_ids))[rows])
    changed = picture_view(squares, sizes, Keyed.of(seed, epoch, ids, view), views, view, size)
    pixels = (changed * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pictures: list[np.ndarray | None] = [None] * len(creatives)
    for row, picture in zip(rows, pixels, strict=True):
        pictures[row] = picture
    return replace(creatives, pictures=pictures)


def usable(table: pa.Table, path: str, at_least: int) -> Creatives:
    """A table's creatives; of pictures that cannot be used at most one in a hundred.

    Raises:
        DataError: If there are more, or nothing is left.
    """
    creatives, bad = creatives_from_arrow(table, at_least=at_least)
    if not len(creatives) or len(bad) > 0.01 * table.num_rows:
        reason = bad[0][1] if bad else "it is empty"
        raise DataError(f"{len(bad)} of {table.num_rows} creatives of {path} cannot be used, the first: {reason}", "look at the table")
    return creatives


@torch.no_grad()
def encode_views(
    encoder: Encoder,
    path: str,
    folder: Path,
    *,
    count: int,
    views: AugmentationConfig,
    seed: int,
    size: int,
    batch_rows: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> VectorStore:
    """Encode each creative of a table as it is, and `count - 1` augmented views of it.

    Args:
        encoder: In evaluation mode; its weights are not changed.
        path: A creatives table or a folder of pictures.
        folder: Where the vectors go.
        count: Vectors per creative.
        views: How views are made.
        seed: Seed of the views.
        size: Side of the views in pixels.
        batch_rows: Creatives encoded at once.
        on_progress: Told of creatives done, and of all, after each batch.

    Raises:
        DataError: If the table cannot be used.
    """
    creatives = usable(creatives_table(path), path, size)
    vectors = np.empty((len(creatives), count, encoder.dim), np.float16)
    for start in range(0, len(creatives), batch_rows):
        part = creatives[start : start + batch_rows]
        for number in range(count):
            shown = part if number == 0 else augmented(part, views, seed, number, number % 2, size)
            vectors[start : start + len(part), number] = encoder(encoder.prepare(shown)).numpy()
        if on_progress is not None:
            on_progress(start + len(part), len(creatives))
    write_vectors(folder, vectors, hash_strings(list(creatives.creative_ids)), hash_strings(list(creatives.sku_ids)))
    return VectorStore.load(folder)


class VectorMaker:
    """Makes view batches from a vector store: each epoch draws two different vectors of each creative.

    Args:
        folder: The store's.
        seed: Seed of the draws.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._store: VectorStore | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_store": None}

    def __call__(self, rows: np.ndarray, epoch: int) -> ViewBatch:
        """The batch of some rows."""
        if self._store is None:
            self._store = VectorStore.load(self._folder)
        store = self._store
        ids = torch.from_numpy(np.asarray(store.ids[rows]))
        pair = Keyed.of(self._seed, epoch, ids, 0).order("vectors", store.vectors.shape[1])[:, :2].numpy()
        looks = (torch.from_numpy(np.asarray(store.vectors[rows, pair[:, v]])) for v in (0, 1))
        first, second = (EncoderInputs({"vectors": look}, len(rows)) for look in looks)
        return ViewBatch(first, second, ids, torch.from_numpy(np.asarray(store.skus[rows])), torch.zeros(len(rows), dtype=torch.int64))


def in_batches(creatives: Creatives, rows: int) -> Iterator[Creatives]:
    """Consecutive slices."""
    for start in range(0, len(creatives), rows):
        yield creatives[start : start + rows]
