"""The tables of products that fine-tuning makes pictures of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from adray.data.schema import IMAGE, TableSchema
from adray.generation.placement import PlacementConfig
from adray.generation.rfft.config import RequestDataConfig
from adray.generation.rfft.source import ProductCollate, request_columns
from adray.generation.usable import Reading, UsableTables, prepare_usable

_PRODUCTS = TableSchema(
    "products",
    key="sku_id",
    required=pa.schema([("sku_id", pa.string())]),
    optional=pa.schema([("annotation_id", pa.string()), ("cutout", IMAGE), ("copy", pa.string()), ("title", pa.string())]),
)


def prepare_products(config: RequestDataConfig, placement: PlacementConfig, folder: Path) -> UsableTables:
    """Make a run's tables of products that can be placed and have a title.

    Args:
        config: The sources.
        placement: Decides which cut-outs can be placed.
        folder: Where the tables go.

    Raises:
        DataError: If a source cannot be read, lacks a column, or has more unusable rows than allowed.
    """

    def reading(names: Sequence[str], path: str) -> Reading:
        columns = request_columns(names, path)
        return Reading(_PRODUCTS, columns, ProductCollate(placement, columns))

    sources = {name: config.table(name) for name in ("train", "holdout")}
    settings = {"placement": placement.model_dump(mode="json")}
    return prepare_usable(sources, reading, folder, settings=settings, quarantine_limit=config.quarantine_limit)
