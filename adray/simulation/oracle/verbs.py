"""What the command line calls for configs of kind `oracle`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from adray.checks import Check
from adray.data.hashing import hash_shares
from adray.data.labels import LABELS
from adray.data.parquet import GroupReader, check_columns, open_parquet
from adray.data.picture_sheet import picture_sheet
from adray.data.quarantine import FOLDER, Lost, check_limit, ensure_readable, quarantine_rows
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import ANNOTATIONS, QUARANTINE
from adray.errors import AdrayError
from adray.files import replacing_folder
from adray.run import Run
from adray.simulation.oracle.config import OracleDataConfig, OracleRunConfig
from adray.simulation.oracle.figures import PREFIX, gain_figures, inspector_figures, table_figures
from adray.simulation.oracle.judge import SCHEMA, Judged, judge_table, open_pictures, read_heights

CONFIG = OracleRunConfig
ANNOTATED = "annotations"
"""The folder of the table that is written, within the run's."""
_ROW_GROUP = 512
_PAIRINGS = (("request_id", "attempt"), ("request_id",), ("sku_id", "seed"), ("sku_id",))


def inspect(config: OracleRunConfig, run: Run) -> None:
    """Judge pictures; write them as `annotations` with the oracle's labels, and report what they are worth.

    Raises:
        DataError: If a table cannot be read or paired, or more pictures cannot be judged than `data.quarantine_limit` allows.
    """
    data = config.data
    pair_on = pairing(data)
    heights = read_heights(data.products)
    with run.stage("judge"), replacing_folder(run.folder / ANNOTATED) as partial:
        found = _written(config, heights, pair_on, partial)
        _check_lost(found, data.quarantine_limit, run.folder / FOLDER)
    run.tables += [str(path) for path in sorted((run.folder / ANNOTATED).iterdir())] + [str(run.folder / FOLDER)]
    settings = (config.resamples, config.seed, config.diversity_pictures)
    with run.stage("figures"):
        run.log({f"{PREFIX}/quarantined": len(found.lost), **table_figures(found, *settings)})
    if data.baseline is not None:
        with run.stage("baseline"):
            baseline = judge_table(data.baseline, heights, named_by=data.id, pair_on=pair_on)
            run.log(gain_figures(found, baseline, *settings))
    if data.verdicts is not None:
        run.log(inspector_figures(found, read_verdicts(data.verdicts)))
    _report(run, found)


def pairing(data: OracleDataConfig) -> tuple[str, ...]:
    """The columns by which pictures and baseline are paired; none without a baseline."""
    if data.baseline is None:
        return ()
    names = set(open_parquet(data.pictures).schema.names) & set(open_parquet(data.baseline).schema.names)
    return tuple(data.pair_on) or next(columns for columns in _PAIRINGS if set(columns) <= names | {"sku_id"})


def read_verdicts(path: str) -> dict[str, tuple[str, bool]]:
    """Label and acceptance by picture, from a table `verdicts`.

    Raises:
        DataError: If it cannot be read or lacks a column.
    """
    table, columns = open_parquet(path), ["image_id", "label", "accepted"]
    check_columns(table, columns)
    reader = GroupReader(table, columns)
    try:
        rows = [row for group in table.groups for row in reader.read(group).to_pylist()]
    finally:
        reader.close()
    return {row["image_id"]: (row["label"], row["accepted"]) for row in rows}


def checks(config: OracleRunConfig, verb: str) -> Iterator[Check]:
    """Whether the tables are there and have the columns that are read."""
    data = config.data
    for name, path in (("pictures", data.pictures), ("baseline", data.baseline)):
        if path is not None:
            yield _table_check(name, path, data)
    try:
        yield Check("products", f"{len(read_heights(data.products))} products with a height")
    except AdrayError as error:
        yield Check("products", data.products, error)
    if data.verdicts is not None:
        try:
            check_columns(open_parquet(data.verdicts), ["image_id", "label", "accepted"])
            yield Check("verdicts", data.verdicts)
        except AdrayError as error:
            yield Check("verdicts", data.verdicts, error)


def _table_check(name: str, path: str, data: OracleDataConfig) -> Check:
    try:
        table, key = open_pictures(path, data.id)
        if data.baseline is not None:
            check_columns(table, data.pair_on)
    except AdrayError as error:
        return Check(name, path, error)
    return Check(name, f"{table.rows} rows in {path}, named by {key}")


def _written(config: OracleRunConfig, heights: dict[str, float], pair_on: tuple[str, ...], folder: Path) -> Judged:
    """Judge the pictures while writing them, parted by product where that is asked for."""
    data, share = config.data, config.holdout
    if share is None:
        with RowGroupWriter(folder / "annotations.parquet", SCHEMA, _ROW_GROUP) as whole:
            return judge_table(data.pictures, heights, named_by=data.id, pair_on=pair_on, write=whole.write)
    train, holdout = (RowGroupWriter(folder / f"{name}.parquet", SCHEMA, _ROW_GROUP) for name in ("train", "holdout"))

    def write(rows: pa.Table) -> None:
        held = hash_shares(rows.column("sku_id")) < share
        train.write(rows.filter(pa.array(~held)))
        holdout.write(rows.filter(pa.array(held)))

    with train, holdout:
        return judge_table(data.pictures, heights, named_by=data.id, pair_on=pair_on, write=write)


def _check_lost(found: Judged, limit: float, folder: Path) -> None:
    with replacing_folder(folder) as partial:
        with RowGroupWriter(partial / "pictures.parquet", QUARANTINE.required, max(len(found.lost), 1)) as writer:
            writer.write(quarantine_rows(ANNOTATIONS.name, "oracle", found.lost))
        ensure_readable(partial)
    first = ": ".join(found.lost[0]) if found.lost else ""
    check_limit(Lost("pictures", len(found), len(found.lost), first), limit, folder, folder)


def _report(run: Run, found: Judged) -> None:
    run.headlines += [f"{PREFIX}/{name}" for name in ("available", "available_of_accepted", "prompt_obeyed", "diversity")]
    gains = ("available_gain", "available_gain_low", "available_gain_high", "diversity_kept", "inspector/f1", "inspector/agreement")
    run.headlines = [name for name in [*run.headlines, *(f"{PREFIX}/{gain}" for gain in gains)] if name in run.metrics]
    rows = [[label, int((found.label == i).sum()), run.metrics[f"{PREFIX}/share/{label}"]] for i, label in enumerate(LABELS)]
    note = "Intervals of the figures are of a bootstrap over products; how diversity is defined is ours."
    run.add_table("Pictures by the oracle's label", ["label", "pictures", "share"], rows, note=note)
    pictures, captions = [picture for _, picture, _ in found.shown], [caption for _, _, caption in found.shown]
    run.add_plot("Some of each label", picture_sheet(pictures, captions, run.folder / "plots" / "labels.png"))
