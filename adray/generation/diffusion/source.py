"""What training is fed: pictures with captions, edges, timesteps and noise seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from adray.data.bad_rows import BadRowsError
from adray.data.hashing import hash_shares
from adray.data.images import ImageRowError
from adray.data.pictures import read_pair
from adray.data.stream import TableStream
from adray.errors import DataError
from adray.generation.conditioning import canny_edges
from adray.generation.diffusion.captions import CaptionConfig, caption

_SEEDS = 2**31


@dataclass(frozen=True)
class Pictures:
    """n training pictures.

    Attributes:
        keys: What names them: the ids of picture and product.
        captions: Whole and shortened caption of each.
        pictures: uint8 `[n, side, side, 3]`.
        cutouts: uint8 `[n, side, side, 4]`, each product at its place in the picture.
        edges: uint8 `[n, side, side, 3]`, the ControlNet's picture.
    """

    keys: tuple[str, ...]
    captions: tuple[tuple[str, str], ...]
    pictures: np.ndarray
    cutouts: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class DiffusionBatch:
    """n pictures, with what is drawn for each of them in one epoch.

    Attributes:
        prompts: What the text encoder reads; "" where the caption is dropped.
        pictures: uint8 `[n, 3, side, side]`.
        cutouts: uint8 `[n, 4, side, side]`.
        edges: uint8 `[n, 3, side, side]`.
        shares: float64 `[n]` in [0, 1): how far along the noise schedule.
        seeds: Of the noise.
    """

    prompts: tuple[str, ...]
    pictures: Tensor
    cutouts: Tensor
    edges: Tensor
    shares: Tensor
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    def to(self, device: Any) -> DiffusionBatch:
        """Copy to a device."""
        moved = [t.to(device) for t in (self.pictures, self.cutouts, self.edges, self.shares)]
        return DiffusionBatch(self.prompts, moved[0], moved[1], moved[2], moved[3], self.seeds)


@dataclass(frozen=True)
class PictureCollate:
    """Rows with picture, cut-out and caption to training pictures.

    Attributes:
        side: That pictures are brought to.
        caption: What is said of them.
        columns: The table's columns that are read.
    """

    side: int
    caption: CaptionConfig
    columns: tuple[str, ...]

    def __call__(self, rows: pa.Table) -> Pictures:
        """Decode, bring to one size, find edges.

        Raises:
            BadRowsError: For rows whose picture or cut-out cannot be used.
        """
        bad: list[tuple[int, str]] = []
        keys, captions, pictures, cutouts = [], [], [], []
        for index, row in enumerate(rows.to_pylist()):
            try:
                picture, cutout = read_pair(row["image"], row["cutout"])
            except ImageRowError as error:
                bad.append((index, error.problem))
                continue
            keys.append("/".join(str(row[name]) for name in ("sku_id", "annotation_id") if row.get(name)))
            captions.append((caption(self.caption, row), caption(self.caption, row, shortened=True)))
            pictures.append(_resized(picture, self.side))
            cutouts.append(_resized(cutout, self.side))
        if bad:
            raise BadRowsError(bad)
        stacked = np.stack(cutouts)
        return Pictures(tuple(keys), tuple(captions), np.stack(pictures), stacked, canny_edges(stacked))


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 `[side, side, c]`; Pillow weighs colours by alpha."""
    if pixels.shape[:2] == (side, side):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def picture_columns(names: Sequence[str], config: CaptionConfig, path: str) -> tuple[str, ...]:
    """The columns of a table of training pictures that are read.

    Raises:
        DataError: If it lacks an id, picture, cut-out, or a column of the caption.
    """
    for needed in ("sku_id", "image", "cutout"):
        if needed not in names:
            raise DataError(f"{path} has no column {needed!r}", "give annotated pictures with their cut-outs")
    for slot in config.columns():
        if slot not in names:
            raise DataError(f"{path} has no column {slot!r}, which caption.template reads", "change caption.template")
    wanted = ("sku_id", "annotation_id", "image", "cutout", *config.columns())
    return tuple(dict.fromkeys(name for name in wanted if name in names))


def drawn_batch(rows: Pictures, config: CaptionConfig, seed: int, epoch: int | None) -> DiffusionBatch:
    """Draw captions, timesteps and noise of one epoch; they depend on the seed, the picture and the epoch alone.

    Args:
        rows: The pictures.
        config: How captions are dropped and shortened.
        seed: The run's seed.
        epoch: From 0; None for evaluation, where captions stay whole.
    """

    def shares(use: str) -> np.ndarray:
        return hash_shares([f"{seed}\0{epoch}\0{use}\0{key}" for key in rows.keys])

    dropped = np.zeros(len(rows.keys), bool) if epoch is None else shares("dropout") < config.dropout
    shortened = np.zeros(len(rows.keys), bool) if epoch is None else shares("shortened") < config.shortened
    prompts = ["" if gone else pair[int(short)] for pair, gone, short in zip(rows.captions, dropped, shortened, strict=True)]
    pictures, cutouts, edges = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (rows.pictures, rows.cutouts, rows.edges))
    seeds = tuple((shares("noise") * _SEEDS).astype(np.int64).tolist())
    return DiffusionBatch(tuple(prompts), pictures, cutouts, edges, torch.from_numpy(shares("timestep")), seeds)


@dataclass(frozen=True)
class DiffusionSource:
    """Training batches; a `training.module.BatchSource`.

    Attributes:
        stream: Pictures.
        caption: How captions are dropped and shortened.
        seed: Of all draws.
    """

    stream: TableStream[Pictures]
    caption: CaptionConfig
    seed: int

    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the pictures."""
        return self.stream.steps_per_epoch()

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[DiffusionBatch]:
        """See `BatchSource.batches`."""
        for rows in self.stream.batches(epoch, first_step, rank, world_size):
            yield drawn_batch(rows, self.caption, self.seed, epoch)
