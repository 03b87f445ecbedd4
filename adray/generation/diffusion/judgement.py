"""Pictures of held-out products by the generator that was trained, for its run's report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from adray.data.parquet import open_parquet
from adray.data.picture_sheet import picture_sheet
from adray.generation.components import load_components
from adray.generation.diffusion.config import DiffusionRunConfig
from adray.generation.placement import PlacementConfig
from adray.generation.rfft.source import FeedbackBatch, ProductCollate, asked, first_of_each, request_columns
from adray.generation.sampler import PictureMaker
from adray.run import Run

HEADLINES = ["diffusion/holdout_loss", "generation/seconds_per_picture"]


def judge(run: Run, config: DiffusionRunConfig, artifact: Path, holdout: str) -> None:
    """Sample a picture of each of some held-out products: a contact sheet, and how long a picture takes.

    Args:
        run: The run that reports.
        config: Its config.
        artifact: The generator.
        holdout: The run's table of held-out pictures.

    Raises:
        DataError: If the table cannot be used.
    """
    maker = PictureMaker(load_components(artifact), config.evaluation.sampling)
    pictures, captions = [], []
    start = time.perf_counter()
    for batch in _requests(config, holdout):
        made = maker(batch.products.cutouts, batch.prompts, batch.negatives, batch.seeds)
        pictures += list(made)
        captions += [_two_lines(prompt) for prompt in batch.prompts]
    seconds = time.perf_counter() - start
    run.headlines += HEADLINES
    run.log({"generation/pictures": len(pictures), "generation/seconds_per_picture": seconds / len(pictures)})
    run.add_plot("Held-out products", picture_sheet(_pixelated(pictures), captions, run.folder / "plots" / "samples.png"))


def _requests(config: DiffusionRunConfig, path: str) -> Iterator[FeedbackBatch]:
    """The first row of each product, where it lies in its picture."""
    at = config.evaluation
    placement = PlacementConfig(size=config.data.size, keep_loc=True)
    collate = ProductCollate(placement, request_columns(open_parquet(path).schema.names, path))
    for products in first_of_each(path, collate, at.batch_rows, at.pictures):
        yield asked(products, at.prompts, config.seed, 0, at.sampling.steps - 1)


def _two_lines(prompt: str) -> str:
    head, _, rest = prompt.partition(", ")
    return f"{head[:28]}\n{rest[:28]}"


def _pixelated(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Small pictures enlarged by whole pixels, so that the sheet does not blur them."""
    return [p.repeat(times, axis=0).repeat(times, axis=1) for p in pictures for times in (max(1, 160 // p.shape[0]),)]
