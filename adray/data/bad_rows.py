"""Rows that cannot be used, found while a batch is being made."""

from __future__ import annotations

from collections.abc import Sequence

from adray.errors import DataError


class BadRowsError(DataError):
    """Raised by a collate function that met rows it cannot use, all of them at once.

    Args:
        rows: (row index in the table given to collate, reason) of each.
    """

    def __init__(self, rows: Sequence[tuple[int, str]]) -> None:
        row, reason = rows[0]
        super().__init__(f"row {row} cannot be used: {reason}", f"{len(rows)} such in this batch")
        # `args` must rebuild the error when it is unpickled in another process.
        self.args = (rows,)
        self.rows = list(rows)
