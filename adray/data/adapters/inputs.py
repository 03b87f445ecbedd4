"""What an adapter gives to ingestion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from adray.data.adapters.grouping import Grouping
from adray.data.conform import target_schema
from adray.data.schema import TableSchema
from adray.data.sources import Source
from adray.data.validate import PROBLEM
from adray.errors import DataError


@dataclass(frozen=True)
class TableInput:
    """How one standard table is made.

    Attributes:
        schema: The standard table.
        source: Where its rows come from.
        adapt: Source rows to rows of the table's columns, any number of rows at a time, also none. With `grouping`, to the
            rows that are grouped. A column `validate.PROBLEM` may say why a row cannot be used.
        grouping: For sources with several rows per row of the table.
    """

    schema: TableSchema
    source: Source
    adapt: Callable[[pa.Table], pa.Table] | None = None
    grouping: Grouping | None = None

    def target(self) -> pa.Schema:
        """Columns and types of the finished table.

        Raises:
            DataError: If a column is missing, unknown or of an impossible type.
        """
        empty = self.adapted(self.source.schema.empty_table())
        if self.grouping is not None:
            empty = self.grouping.make(empty)
        if PROBLEM in empty.column_names:
            empty = empty.drop_columns([PROBLEM])
        return target_schema(empty.schema, self.schema, self.source.path)

    def adapted(self, rows: pa.Table) -> pa.Table:
        """Source rows after `adapt`."""
        return rows if self.adapt is None else self.adapt(rows)


@dataclass(frozen=True)
class Inputs:
    """All that an adapter found.

    Attributes:
        impressions: The log.
        creatives: The creatives; None where there are none, and then candidates are not checked against them.
        products: The products.
        by_path: Tables passed on as they are (`requests`, `truth`): name -> path.
    """

    impressions: TableInput
    creatives: TableInput | None = None
    products: TableInput | None = None
    by_path: dict[str, str] = field(default_factory=dict)

    def tables(self) -> dict[str, TableInput]:
        """The tables to ingest, those that others refer to first."""
        found = {"creatives": self.creatives, "products": self.products, "impressions": self.impressions}
        return {name: table for name, table in found.items() if table is not None}


def need_columns(source: Source, columns: dict[str, str]) -> None:
    """Refuse a source that lacks a column.

    Args:
        source: The source.
        columns: Needed column -> what it is for, in the words of the error.

    Raises:
        DataError: Naming the column, its use and the nearest column that is there.
    """
    from adray.data.parquet import nearest

    for column, use in columns.items():
        if column not in source.schema.names:
            raise DataError(f"{source.path} has no column {column!r} ({use})", nearest(column, source.schema.names))
