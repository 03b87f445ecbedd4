"""`standard`: tables that already have the declared columns, e.g. a simulated world."""

from __future__ import annotations

from adray.data.adapters.inputs import Inputs, TableInput
from adray.data.config import DataConfig
from adray.data.schema import CREATIVES, IMPRESSIONS, PRODUCTS, TableSchema
from adray.data.sources import open_source
from adray.data.storage import exists, is_folder, join


def inputs(config: DataConfig) -> Inputs:
    """Open `data.path`: a folder of standard tables, or the impressions alone.

    In a folder, `impressions/` or `impressions.parquet` is the log and the other tables lie beside it. Tables
    that the config names win over those found in the folder.

    Raises:
        DataError: If a source is missing or unreadable.
    """
    impressions = _beside(config.path, "impressions")
    root = config.path if impressions else None

    def path_of(name: str) -> str | None:
        given = getattr(config, name)
        return given if given is not None or root is None else _beside(root, name)

    def table(schema: TableSchema) -> TableInput | None:
        path = path_of(schema.name)
        return None if path is None else TableInput(schema, open_source(path, config.types))

    by_path = {name: path for name in ("requests", "truth") if (path := path_of(name)) is not None}
    return Inputs(
        TableInput(IMPRESSIONS, open_source(impressions or config.path, config.types)), table(CREATIVES), table(PRODUCTS), by_path
    )


def _beside(folder: str, name: str) -> str | None:
    """The table of this name in a folder: a Parquet file or a folder."""
    if any(sign in folder for sign in "*?[") or not is_folder(folder):
        return None
    return next((path for path in (join(folder, name), join(folder, f"{name}.parquet")) if exists(path)), None)
