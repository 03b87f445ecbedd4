"""The tables of pictures that a generator learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from adray.data.schema import IMAGE, TableSchema
from adray.generation.diffusion.captions import CaptionConfig
from adray.generation.diffusion.config import PicturesDataConfig
from adray.generation.diffusion.source import PictureCollate, picture_columns
from adray.generation.usable import Reading, UsableTables, prepare_usable


def prepare_pictures(config: PicturesDataConfig, captions: CaptionConfig, folder: Path) -> UsableTables:
    """Make a run's tables of pictures that can be read together with their cut-outs.

    Args:
        config: The sources.
        captions: Names the columns that captions are made of.
        folder: Where the tables go.

    Raises:
        DataError: If a source cannot be read, lacks a column, or has more unusable rows than allowed.
    """
    texts = tuple(dict.fromkeys(("annotation_id", "copy", "title", *captions.columns())))
    schema = TableSchema(
        "pictures",
        key="sku_id",
        required=pa.schema([("sku_id", pa.string())]),
        optional=pa.schema([("image", IMAGE), ("cutout", IMAGE), *((name, pa.string()) for name in texts)]),
    )

    def reading(names: Sequence[str], path: str) -> Reading:
        read = picture_columns(names, captions, path)
        # Samples of held-out products are asked for by their titles.
        kept = tuple(dict.fromkeys((*read, *(name for name in ("copy", "title") if name in names))))
        return Reading(schema, kept, PictureCollate(config.size, captions, read))

    sources = {"train": config.train, "holdout": config.holdout}
    settings = {"caption": list(captions.columns())}
    return prepare_usable(sources, reading, folder, settings=settings, quarantine_limit=config.quarantine_limit)
