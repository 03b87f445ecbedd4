"""Where an embedding run finds its `creatives` table: as given, or made of another source by an adapter of the data room."""

from __future__ import annotations

from pathlib import Path

from adray.data.config import DataConfig
from adray.data.ingest import ingest
from adray.errors import DataError
from adray.representation.embedding.config import CreativesConfig

TABLES = "tables"


def creatives_table(data: CreativesConfig, folder: Path) -> str:
    """Path of the `creatives` table.

    Args:
        data: Names the source and its adapter.
        folder: The run's folder; adapted tables go into its `tables/`, where an unchanged source is not read again.

    Raises:
        DataError: If the source cannot be adapted, or holds no creatives.
    """
    if data.adapter == "standard":
        return data.creatives
    made = ingest(adapted(data), folder / TABLES).creatives
    if made is None:
        raise DataError(f"{data.creatives} holds no creatives", "check data.adapter")
    return made


def adapted(data: CreativesConfig) -> DataConfig:
    """The source as a ranker's `data` would name it; creatives are then named alike in both."""
    return DataConfig(path=data.creatives, adapter=data.adapter, quarantine_limit=data.quarantine_limit)
