"""Pre-flight checks of the data: sources there, columns right, a sample of rows usable, sizes that divide each other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import pyarrow as pa

from adray.checks import Check
from adray.data.adapters import Inputs, TableInput, open_inputs
from adray.data.config import DataConfig
from adray.data.epoch_plan import check_batch_arithmetic
from adray.data.parquet import open_parquet
from adray.data.quarantine import first_reason
from adray.data.sources import read_part
from adray.data.storage import exists
from adray.data.validate import Rules, split_rows
from adray.errors import AdrayError, DataError

_SAMPLE_ROWS = 256


def data_checks(config: DataConfig) -> Iterable[Check]:
    """Check the sources that a config names; nothing is written and Ray is not needed.

    Args:
        config: The `data` section.

    Yields:
        One check per source and per table sampled.
    """
    try:
        inputs = open_inputs(config)
    except AdrayError as error:
        yield Check("data readable", config.path, error)
        return
    yield Check("data readable", _described(inputs))
    for name, table in inputs.tables().items():
        yield _sample_check(name, table, config)
    beside = {name: path for name in ("embeddings", "attributes") if (path := getattr(config, name)) is not None}
    for name, path in {**inputs.by_path, **beside}.items():
        yield _path_check(name, path)
    if config.holdout > 0:
        yield _time_check(inputs)


def batch_check(config: DataConfig, batch_size: int, micro_batch_size: int, workers: int) -> Check:
    """Whether workers, lanes, micro-batches and the batch divide each other.

    Args:
        config: The `data` section, for its lanes.
        batch_size: Rows of an optimizer step over all workers.
        micro_batch_size: Rows of one worker's forward pass.
        workers: Number of workers; for elastic runs check each number that can occur.
    """
    detail = f"batch {batch_size}, {config.lanes} lanes, {workers} workers x micro-batch {micro_batch_size}"
    try:
        check_batch_arithmetic(batch_size, micro_batch_size, config.lanes, workers)
    except AdrayError as error:
        return Check("batch arithmetic", detail, error)
    return Check("batch arithmetic", f"{detail} x {batch_size // micro_batch_size // workers} accumulated")


def _described(inputs: Inputs) -> str:
    sources = [f"{name}: {table.source.kind}, {table.source.size / 2**20:.1f} MiB" for name, table in inputs.tables().items()]
    return "; ".join(sources)


def _sample_check(name: str, table: TableInput, config: DataConfig) -> Check:
    """Read the first rows and hold them to their schema. A grouped source's sample may cut its last group."""
    title = f"{name} conform"
    try:
        target = table.target()
        rows = table.adapted(_sample(table))
        if table.grouping is not None:
            rows = table.grouping.make(rows)
        rules = Rules(table.schema, target, needs_time=name == "impressions" and config.holdout > 0, folder=table.source.folder)
        good, bad = split_rows(rows, rules, "sample")
    except AdrayError as error:
        return Check(title, table.source.path, error)
    detail = f"{good.num_rows} of {rows.num_rows} sampled rows usable, columns {', '.join(target.names)}"
    # A few bad rows are what the quarantine is for; a sample without a good one is a wrong config.
    if rows.num_rows and not good.num_rows:
        problem = f"{table.source.path}: none of the first {rows.num_rows} rows of {name} can be used, for example {first_reason(bad)}"
        return Check(title, detail, DataError(problem, "mend the source or its mapping"))
    return Check(title, detail if not bad.num_rows else f"{detail}; unusable: {first_reason(bad)}")


def _sample(table: TableInput) -> pa.Table:
    source = table.source
    pieces = []
    have = 0
    for part in islice(source.parts, 4):
        for rows in read_part(source, part, lambda key, reason: None):
            pieces.append(rows.slice(0, _SAMPLE_ROWS - have))
            have += pieces[-1].num_rows
            if have >= _SAMPLE_ROWS:
                return pa.concat_tables(pieces, promote_options="permissive")
    return pa.concat_tables(pieces, promote_options="permissive") if pieces else source.schema.empty_table()


def _path_check(name: str, path: str) -> Check:
    try:
        if not exists(path):
            raise DataError(f"data.{name} {path} does not exist", "check the path")
        return Check(f"{name} readable", f"{path}, {open_parquet(path).rows} rows")
    except AdrayError as error:
        return Check(f"{name} readable", path, error)


def _time_check(inputs: Inputs) -> Check:
    path = inputs.impressions.source.path
    try:
        names = inputs.impressions.target().names
    except AdrayError as error:
        return Check("time split", path, error)
    if "timestamp" in names:
        return Check("time split", "impressions have a timestamp")
    problem = f"data.holdout splits by time, but {path} has no timestamp"
    return Check("time split", path, DataError(problem, "set data.holdout to 0 or give a timestamp column"))
