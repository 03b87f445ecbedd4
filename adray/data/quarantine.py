"""Rows that could not be used: written where they can be read, counted, and limited."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adray.data.schema import QUARANTINE
from adray.errors import DataError

FOLDER = "quarantine"


@dataclass(frozen=True)
class Lost:
    """What one table lost: rows kept, rows quarantined, and the first quarantined row's key and reason."""

    table: str
    kept: int
    quarantined: int
    first: str = ""

    @property
    def share(self) -> float:
        """Quarantined rows per row."""
        return self.quarantined / max(1, self.kept + self.quarantined)


def quarantine_rows(table: str, stage: str, rows: list[tuple[str, str]]) -> pa.Table:
    """Quarantine rows of (key, reason) pairs."""
    columns = {
        "table": [table] * len(rows),
        "key": [key for key, _ in rows],
        "stage": [stage] * len(rows),
        "reason": [reason for _, reason in rows],
    }
    return pa.table(columns, schema=QUARANTINE.required)


def first_reason(rows: pa.Table) -> str:
    """`key: reason` of the first row, or nothing."""
    return f"{rows['key'][0].as_py()}: {rows['reason'][0].as_py()}" if rows.num_rows else ""


def check_limit(lost: Lost, limit: float, written: Path, kept_at: Path) -> None:
    """Fail when too great a share of a table was quarantined, or nothing is left of it.

    Args:
        lost: The table's count.
        limit: Greatest share allowed.
        written: Where the quarantine lies now.
        kept_at: Where it is moved on failure, because unfinished tables are deleted; the same place where it may stay.

    Raises:
        DataError: Naming table, count, share, the first reason and where to read the rest.
    """
    if lost.quarantined == 0 or (lost.share <= limit and lost.kept > 0):
        return
    if written != kept_at:
        shutil.rmtree(kept_at, ignore_errors=True)
        kept_at.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(written, kept_at)
    raise DataError(
        f"table {lost.table!r}: {lost.quarantined} of {lost.kept + lost.quarantined} rows ({lost.share:.2%}) cannot be used, "
        f"limit {limit:.2%}; first {lost.first}",
        f"all are in {kept_at}; mend the source or raise data.quarantine_limit",
    )


def ensure_readable(folder: Path) -> None:
    """Leave an empty quarantine table where nothing was lost."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        pq.write_table(QUARANTINE.required.empty_table(), folder / "none.parquet")
