"""What a piecework job leaves on disk: a part of the table for each item, its losses, and a record that it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from adray.data.hashing import hash_strings
from adray.data.parquet import GroupReader, open_parquet
from adray.data.piecework.items import Item
from adray.data.quarantine import FOLDER, quarantine_rows
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import QUARANTINE
from adray.errors import DataError
from adray.files import write_json


@dataclass
class ItemResult:
    """What became of an item; the content of its record.

    Attributes:
        item: Its name.
        kept: Rows written.
        lost: Rows quarantined.
        first: Key and reason of the first loss.
        seconds: Time spent in each stage.
        counts: Whatever else the job counts, by name.
    """

    item: str
    kept: int = 0
    lost: int = 0
    first: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """The folders of one job, shared by its workers.

    Attributes:
        output: Rows, `part-<item>.parquet`.
        quarantine: Losses, likewise named.
        done: Records, `<item>.json`, written last: an item without one is not done.
    """

    output: Path
    quarantine: Path
    done: Path

    @classmethod
    def make(cls, folder: Path, table: str) -> Parts:
        """The folders below a run's; made where they are not there.

        Args:
            folder: The run's folder.
            table: Name of the table, and so of its folder.
        """
        parts = cls(folder / table, folder / FOLDER, folder / "done")
        for path in (parts.output, parts.quarantine, parts.done):
            path.mkdir(parents=True, exist_ok=True)
        return parts

    def finished(self, items: Sequence[Item]) -> dict[str, ItemResult]:
        """Results of the items that are done; output of items that the source no longer has is deleted, and so is unrecorded output."""
        names = {item.name for item in items}
        found = {}
        for path in self.done.glob("*.json"):
            if path.stem in names:
                found[path.stem] = ItemResult(**json.loads(path.read_text(encoding="utf-8")))
            else:
                path.unlink()
        for folder in (self.output, self.quarantine):
            for path in [*folder.glob("*.parquet"), *folder.glob(".part-*.partial")]:
                if path.suffix == ".partial" or path.stem.removeprefix("part-") not in found:
                    path.unlink()
        return found

    @contextmanager
    def writing(self, item: Item, schema: pa.Schema, group_rows: int) -> Iterator[RowGroupWriter]:
        """A writer of the item's rows; its file appears, whole, when the block ends well and a row was written.

        Args:
            item: Which.
            schema: Of the rows.
            group_rows: Rows of a row group.
        """
        with self._appearing(self.output, item, schema, group_rows) as writer:
            yield writer

    def finish(self, result: ItemResult, item: Item, table: str, stage: str, lost: list[tuple[str, str]]) -> None:
        """Write an item's losses, complete its result with their number, and record that it is done.

        Args:
            result: Its result so far.
            item: Which.
            table: The table that was read.
            stage: The job's name in the quarantine.
            lost: (key, reason) of each lost row.
        """
        if lost:
            with self._appearing(self.quarantine, item, QUARANTINE.required, len(lost)) as writer:
                writer.write(quarantine_rows(table, stage, lost))
            result.lost, result.first = len(lost), ": ".join(lost[0])
        write_json(self.done / f"{item.name}.json", asdict(result))

    @contextmanager
    def _appearing(self, folder: Path, item: Item, schema: pa.Schema, group_rows: int) -> Iterator[RowGroupWriter]:
        hidden = folder / f".part-{item.name}.partial"
        with RowGroupWriter(hidden, schema, group_rows) as writer:
            yield writer
        if writer.written:
            hidden.replace(folder / f"part-{item.name}.parquet")


def check_lost(results: Sequence[ItemResult], expected: int | None, table: str, limit: float, quarantine: Path) -> None:
    """Refuse too many losses, as soon as they are too many of all rows that there will be.

    Args:
        results: Of the items done so far.
        expected: Rows of all items; None when the job is over and `results` is all there is; 0 where that is not known yet.
        table: The table that was read.
        limit: Greatest share of rows that may be lost.
        quarantine: Where they can be read.

    Raises:
        DataError: If more are lost, or the job is over and had no rows.
    """
    lost = sum(r.lost for r in results)
    rows = sum(r.kept + r.lost for r in results) if expected is None else expected
    if rows and lost / rows > limit:
        first = next(r.first for r in results if r.lost)
        problem = f"table {table!r}: {lost} of {rows} rows ({lost / rows:.2%}) cannot be used, limit {limit:.2%}; first {first}"
        raise DataError(problem, f"all are in {quarantine}; mend the source or raise data.quarantine_limit")
    if expected is None and not rows:
        raise DataError(f"table {table!r} has no rows", f"check data.{table}")


def check_unique(output: str, key: str, table: str) -> None:
    """Refuse a key that has several rows in what a job wrote; no worker sees more than its own items.

    Args:
        output: The table that was written; it has a row.
        key: Its key column.
        table: The table that was read.

    Raises:
        DataError: Naming the first key that occurs twice.
    """
    found = open_parquet(output)
    reader = GroupReader(found, [key])
    try:
        hashes = np.concatenate([hash_strings(reader.read(group).column(0)) for group in found.groups])
        order = np.argsort(hashes, kind="stable")
        repeats = order[1:][hashes[order][1:] == hashes[order][:-1]]
        if not repeats.size:
            return
        name = pa.concat_tables([reader.read(group) for group in found.groups]).column(0)[int(repeats[0])].as_py()
    finally:
        reader.close()
    raise DataError(f"{key} {name!r} occurs twice in table {table!r}", f"keep one row per {key}, then --set resume=true")
