"""Any source to the run's standard tables: adapted, validated, quarantined, split by time, written in small row groups.

Every table is cut into parts. A Ray Data task reads one part a few thousand rows at a time and writes the part's own output
files, so memory is bounded by a part's row group, rows never pass through the driver, and the bytes written do not depend
on the order in which tasks run.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from adray.data import quarantine
from adray.data.adapters import Inputs, open_inputs
from adray.data.config import DataConfig
from adray.data.ingest_table import IngestedTable, TableJob, drop_repeats, ingest_table
from adray.data.quarantine import Lost, check_limit
from adray.data.tables import TABLES_FILE, Tables, read_tables
from adray.data.time_split import split_by_time
from adray.data.validate import Rules
from adray.errors import DataError
from adray.files import replacing_folder
from adray.ray_session import use_ray

_log = logging.getLogger(__name__)

_VERSION = 1
"""Raised when the same input would give other tables, so that cached ones are made again."""

_NOT_CONTENT = ("lanes", "shuffle_rows", "reader", "reader_labels", "quarantine_limit")
"""Settings that do not change what is written."""


def ingest(config: DataConfig, folder: str | Path) -> Tables:
    """Make the standard tables of a run.

    Writes `train/`, `holdout/`, `creatives/`, `products/`, `quarantine/` and `tables.json` into `folder`, all at once: a
    failure leaves what was there before. When `folder` already holds the tables of these sources and settings, they are
    used again. Connects to Ray, or starts a small local instance when there is none.

    Args:
        config: The sources and settings.
        folder: Where the tables go; shared by all nodes when Ray runs on several.

    Returns:
        The tables.

    Raises:
        DataError: If a source cannot be read or lacks a column, more rows are unusable than `quarantine_limit` allows (the
            quarantine is then kept in `<folder>.quarantine`), or the rows cannot be split by time.
    """
    folder = Path(folder).absolute()
    inputs = open_inputs(config)
    mark = fingerprint(config, inputs)
    if (folder / TABLES_FILE).is_file():
        known = read_tables(folder)
        if known.fingerprint == mark and Path(known.train).is_dir():
            _check_limits(known, config.quarantine_limit)
            return known
    use_ray()
    with replacing_folder(folder) as partial:
        tables = _ingest(config, inputs, partial, folder)
        tables = replace(tables, fingerprint=mark)
        tables.save(partial)
    return tables


def fingerprint(config: DataConfig, inputs: Inputs) -> str:
    """Hex SHA-256 over the settings that shape the tables and every source file's path, size and time."""
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in _NOT_CONTENT}
    stamps = {name: table.source.stamp for name, table in inputs.tables().items()}
    text = json.dumps([_VERSION, settings, stamps, inputs.by_path], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _ingest(config: DataConfig, inputs: Inputs, partial: Path, final: Path) -> Tables:
    lost_folder = partial / quarantine.FOLDER
    kept_at = final.with_name(f"{final.name}.{quarantine.FOLDER}")
    done: dict[str, IngestedTable] = {}
    known: np.ndarray | None = None
    for name, table in inputs.tables().items():
        events = name == "impressions"
        timed = events and config.holdout > 0
        rules = Rules(table.schema, table.target(), known if events else None, timed, table.source.folder)
        job = TableJob(table, rules, partial / ("train" if events else name), lost_folder, config.row_group_rows)
        done[name] = ingest_table(job) if events else drop_repeats(job, ingest_table(job))
        check_limit(done[name].lost, config.quarantine_limit, lost_folder, kept_at)
        if done[name].lost.kept == 0:
            raise DataError(f"{table.source.path}: table {name!r} has no rows", "check the path and what data.adapter leaves out")
        if name == "creatives":
            known = np.sort(done[name].known_keys)
    split = split_by_time(partial / "train", partial / "holdout", config.holdout, config.row_group_rows)
    quarantine.ensure_readable(lost_folder)
    rows = {name: table.lost.kept for name, table in done.items() if name != "impressions"}
    rows |= {"train": split.train_rows} | ({"holdout": split.holdout_rows} if split.holdout_rows else {})
    left_out = {name: table.left_out for name, table in done.items() if table.left_out}
    for name, count in left_out.items():
        _log.info("table %r: data.drop_weeks leaves out %d source rows", name, count)
    return Tables(
        train=str(final / "train"),
        holdout=str(final / "holdout") if split.holdout_rows else None,
        creatives=str(final / "creatives") if "creatives" in done else None,
        products=str(final / "products") if "products" in done else None,
        requests=inputs.by_path.get("requests"),
        truth=inputs.by_path.get("truth"),
        embeddings=config.embeddings,
        attributes=config.attributes,
        quarantine=str(final / quarantine.FOLDER),
        rows=rows,
        quarantined={name: table.lost.quarantined for name, table in done.items()},
        left_out=left_out,
        train_until=split.train_until,
    )


def _check_limits(tables: Tables, limit: float) -> None:
    """Hold cached tables to a limit that may have been lowered since."""
    events = tables.rows.get("train", 0) + tables.rows.get("holdout", 0)
    for name, count in tables.quarantined.items():
        lost = Lost(name, events if name == "impressions" else tables.rows.get(name, 0), count)
        if lost.share > limit:
            raise DataError(
                f"table {name!r}: {count} of {lost.kept + count} rows ({lost.share:.2%}) cannot be used, limit {limit:.2%}",
                f"read {tables.quarantine}; mend the source or raise data.quarantine_limit",
            )
