"""A training run's own tables: every row of its sources looked at once, what cannot be used quarantined with its reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from adray.data.bad_rows import BadRowsError
from adray.data.piecework.items import make_items, read_item
from adray.data.quarantine import FOLDER, Lost, check_limit, ensure_readable, quarantine_rows
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import QUARANTINE, TableSchema
from adray.data.sources import Source, open_source
from adray.errors import DataError
from adray.files import replacing_folder, write_json
from adray.run import Run

_RECORD = "usable.json"
_READ_ROWS, _GROUP_ROWS = 64, 256

Look = Callable[[pa.Table], Any]
"""Makes of rows what training wants of them.

Raises:
    BadRowsError: For those that cannot be used.
"""


@dataclass(frozen=True)
class Reading:
    """What a run wants of a table.

    Attributes:
        schema: Its id and what its columns hold.
        columns: Those that are kept.
        look: Says which rows cannot be used.
    """

    schema: TableSchema
    columns: tuple[str, ...]
    look: Look


@dataclass(frozen=True)
class UsableTables:
    """A run's rows.

    Attributes:
        train: Folder of the training rows.
        holdout: Folder of the others.
        quarantine: Folder of what could not be used.
        rows: Rows of both, by name.
        quarantined: Rows in the quarantine.
        fingerprint: Hex digest of sources and settings; equal input, equal tables.
    """

    train: str
    holdout: str
    quarantine: str
    rows: dict[str, int]
    quarantined: int
    fingerprint: str

    def report(self, run: Run) -> None:
        """Name them in a run's report, with their rows."""
        run.tables += [self.train, self.holdout, self.quarantine]
        run.log({**{f"data/rows/{name}": rows for name, rows in self.rows.items()}, "data/quarantined": self.quarantined})


def prepare_usable(
    sources: Mapping[str, str],
    reading: Callable[[Sequence[str], str], Reading],
    folder: Path,
    *,
    settings: Mapping[str, Any],
    quarantine_limit: float,
) -> UsableTables:
    """Make a run's tables; when `folder` holds those of these sources already, they are used again.

    Args:
        sources: Path of the tables `train` and `holdout`.
        reading: Tells from a table's columns and path what is wanted of it.
        folder: Where the run's tables go.
        settings: What else decides which rows can be used; JSON values.
        quarantine_limit: Greatest share of either table that may be unusable.

    Raises:
        DataError: If a source cannot be read, lacks a column, or has more unusable rows than allowed.
    """
    folder = folder.absolute()
    opened = {name: open_source(path) for name, path in sources.items()}
    stamps = [[name, source.stamp] for name, source in opened.items()]
    mark = hashlib.sha256(json.dumps([stamps, settings]).encode()).hexdigest()
    if (folder / _RECORD).is_file():
        known = UsableTables(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
        if known.fingerprint == mark:
            return known
    rows, lost = {}, 0
    with replacing_folder(folder) as partial:
        for name, source in opened.items():
            own: list[tuple[str, str]] = []
            how = reading(source.schema.names, source.path)
            rows[name] = _write(source, how, partial / name / "part-0.parquet", own)
            first = ": ".join(own[0]) if own else ""
            check_limit(
                Lost(how.schema.name, rows[name], len(own), first),
                quarantine_limit,
                _quarantine(partial, how.schema.name, name, own),
                folder.with_name(f"{folder.name}.{FOLDER}"),
            )
            if not rows[name]:
                raise DataError(f"{source.path} has no usable row", f"first: {own[0][1]}" if own else "it has no rows")
            lost += len(own)
        ensure_readable(partial / FOLDER)
        tables = UsableTables(str(folder / "train"), str(folder / "holdout"), str(folder / FOLDER), rows, lost, mark)
        write_json(partial / _RECORD, asdict(tables))
    return tables


def _quarantine(folder: Path, table: str, stage: str, lost: list[tuple[str, str]]) -> Path:
    with RowGroupWriter(folder / FOLDER / f"{stage}.parquet", QUARANTINE.required, 1 << 16) as writer:
        writer.write(quarantine_rows(table, stage, lost))
    return folder / FOLDER


def _write(source: Source, wanted: Reading, path: Path, lost: list[tuple[str, str]]) -> int:
    """Rows kept."""
    fields = (*wanted.schema.required, *wanted.schema.optional)
    schema = pa.schema([field for field in fields if field.name in wanted.columns])
    with RowGroupWriter(path, schema, _GROUP_ROWS) as writer:
        for rows in _rows(source, wanted, lost):
            bad: dict[int, str] = {}
            try:
                wanted.look(rows)
            except BadRowsError as error:
                bad = dict(error.rows)
            keys = rows.column(wanted.schema.key).to_pylist()
            lost += [(keys[row] or f"row {row}", reason) for row, reason in sorted(bad.items())]
            writer.write(rows.filter(pa.array([row not in bad for row in range(rows.num_rows)])).select(schema.names).cast(schema))
    return writer.written


def _rows(source: Source, wanted: Reading, lost: list[tuple[str, str]]) -> Iterator[pa.Table]:
    for item in make_items(source, 16 * _READ_ROWS, _READ_ROWS):
        yield from read_item(source, item, _READ_ROWS, wanted.schema, wanted.columns, lambda key, reason: lost.append((key, reason)))
