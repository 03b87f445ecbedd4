"""What fine-tuning is fed: products with prompts, noise seeds, and the denoising step that has the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from adray.data.bad_rows import BadRowsError
from adray.data.images import ImageRowError
from adray.data.pictures import image_pixels
from adray.data.stream import TableStream, iterate
from adray.errors import DataError
from adray.generation.placement import PlacementConfig, place, stand
from adray.generation.prompts import PromptConfig, draw

_AS_THEY_ARE = PlacementConfig()


@dataclass(frozen=True)
class Products:
    """n products.

    Attributes:
        skus: Their ids.
        keys: What names the rows: the ids and, where a table has several pictures of a product, the pictures'.
        titles: Their copy.
        cutouts: uint8 `[n, side, side, 4]`, each at its place.
    """

    skus: tuple[str, ...]
    keys: tuple[str, ...]
    titles: tuple[str, ...]
    cutouts: np.ndarray

    def take(self, rows: Sequence[int]) -> Products:
        """Some rows."""
        skus, keys, titles = (tuple(values[row] for row in rows) for values in (self.skus, self.keys, self.titles))
        return Products(skus, keys, titles, self.cutouts[list(rows)])


@dataclass(frozen=True)
class FeedbackBatch:
    """n pictures to be made.

    Attributes:
        products: Of what.
        prompts: n texts.
        negatives: n texts.
        seeds: n seeds of the noise.
        step: The denoising step that has the gradient, counted from 0.
    """

    products: Products
    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    seeds: tuple[int, ...]
    step: int

    def __len__(self) -> int:
        return len(self.seeds)

    def to(self, device: Any) -> FeedbackBatch:
        """Pictures and texts are encoded where the networks are; nothing to copy."""
        return self


@dataclass(frozen=True)
class ProductCollate:
    """Rows of any table with a cut-out and a title to products.

    Attributes:
        placement: Where products are put.
        columns: The table's columns that are read.
    """

    placement: PlacementConfig
    columns: tuple[str, ...]

    def __call__(self, rows: pa.Table) -> Products:
        """Decode and place.

        Raises:
            BadRowsError: For rows without a usable cut-out or title.
        """
        bad: list[tuple[int, str]] = []
        skus, keys, titles, cutouts = [], [], [], []
        for index, row in enumerate(rows.to_pylist()):
            title = row.get("title") or row.get("copy") or ""
            try:
                if not title.strip():
                    raise ImageRowError("there is no title", "")
                canvas = place(image_pixels(row["cutout"]), self.placement)
                if canvas.shape[:2] != (self.placement.size, self.placement.size):
                    height, width = canvas.shape[:2]
                    raise ImageRowError(f"the product keeps its place on {width} x {height} pixels, and only squares can be batched", "")
                cutouts.append(canvas)
            except (DataError, OSError) as error:
                bad.append((index, error.problem if isinstance(error, DataError) else str(error)))
                continue
            skus.append(row["sku_id"])
            keys.append("/".join(str(row[name]) for name in ("sku_id", "annotation_id") if row.get(name)))
            titles.append(title)
        if bad:
            raise BadRowsError(bad)
        return Products(tuple(skus), tuple(keys), tuple(titles), np.stack(cutouts))


def request_columns(names: Sequence[str], path: str) -> tuple[str, ...]:
    """The columns of a table of products that are read.

    Raises:
        DataError: If it lacks the id, the cut-out or the title.
    """
    for needed in ("sku_id", "cutout"):
        if needed not in names:
            raise DataError(f"{path} has no column {needed!r}", "give a table of products or annotated pictures")
    if not {"copy", "title"} & set(names):
        raise DataError(f"{path} has neither column 'copy' nor 'title'", "prompts and the inspector need titles")
    return tuple(name for name in ("sku_id", "annotation_id", "cutout", "copy", "title") if name in names)


def first_of_each(path: str, collate: ProductCollate, batch_rows: int, wanted: int) -> Iterator[Products]:
    """The first row of each of the first products of a table.

    Args:
        path: The table.
        collate: Reads its rows.
        batch_rows: Rows read at once.
        wanted: Products at most.
    """
    seen: set[str] = set()
    for products in iterate(path, batch_rows, collate.columns, collate):
        first = []
        for row, sku in enumerate(products.skus):
            if sku not in seen and len(seen) < wanted:
                seen.add(sku)
                first.append(row)
        if first:
            yield products.take(first)
        if len(seen) == wanted:
            return


def asked(
    products: Products, prompts: PromptConfig, seed: int, attempt: int, step: int, placement: PlacementConfig = _AS_THEY_ARE
) -> FeedbackBatch:
    """Give products their prompts, noise and foot; all depend on the seed, the product and the attempt alone.

    Args:
        products: n products, placed but for the foot.
        prompts: What is asked for.
        seed: The run's seed.
        attempt: Which picture of each product; the epoch in training.
        step: The denoising step that has the gradient.
        placement: Where products stand.
    """
    drawn = [draw(prompts, seed, key, attempt, title) for key, title in zip(products.keys, products.titles, strict=True)]
    cutouts = np.stack([stand(canvas, placement, d.seed) for canvas, d in zip(products.cutouts, drawn, strict=True)])
    products = replace(products, cutouts=cutouts)
    return FeedbackBatch(products, tuple(d.prompt for d in drawn), tuple(d.negative for d in drawn), tuple(d.seed for d in drawn), step)


@dataclass(frozen=True)
class FeedbackSource:
    """Training batches; a `training.module.BatchSource`.

    Attributes:
        stream: Products.
        prompts: What is asked for.
        placement: Where products stand.
        seed: Of prompts, noise, feet and chosen steps.
        steps: Denoising steps.
        last: The gradient is at one of the last so many.
    """

    stream: TableStream[Products]
    prompts: PromptConfig
    placement: PlacementConfig
    seed: int
    steps: int
    last: int

    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the products."""
        return self.stream.steps_per_epoch()

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[FeedbackBatch]:
        """See `BatchSource.batches`. The chosen denoising step is the same on every rank, so that none waits for another."""
        plan = self.stream.plan
        per_step = plan.batch_size // (plan.micro_batch_size * world_size)
        for count, products in enumerate(self.stream.batches(epoch, first_step, rank, world_size)):
            step, part = first_step + count // per_step, count % per_step
            chosen = chosen_step(self.seed, epoch, step, part, self.steps, self.last)
            yield asked(products, self.prompts, self.seed, epoch, chosen, self.placement)


def chosen_step(seed: int, epoch: int, step: int, part: int, steps: int, last: int) -> int:
    """Uniform among the last `last` of `steps` denoising steps, for one micro-batch of an optimizer step."""
    return int(np.random.default_rng([seed, epoch, step, part]).integers(steps - last, steps))
