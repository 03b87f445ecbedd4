"""`mapped`: any Parquet or CSV log, by a map from standard columns to its own.

Two forms. *Lists*: one source row per impression, `candidates` maps to a column of creative ids (a list, or text joined by
`list_separator`) or to a standard list of structs; `propensity`, `impressions` and `clicks` may map to lists beside it. *Rows*:
one source row per candidate, `creative_id` is mapped; rows of one (request, SKU) become one list, wherever in the source they
are. There `exposed` maps to a 0/1 column that says whether the row's candidate was shown, `clicked` is read from that row,
and all other features are read from the group's first row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.data.adapters.grouping import Grouping, Groups, group_rows
from adray.data.adapters.inputs import Inputs, TableInput, need_columns
from adray.data.config import DataConfig
from adray.data.parquet import nearest
from adray.data.schema import CANDIDATE, CREATIVES, IMPRESSIONS, PRODUCTS, TableSchema
from adray.data.sources import open_source
from adray.data.validate import PROBLEM
from adray.errors import ConfigError

_MEMBERS = ("propensity", "impressions", "clicks")
_KEYS = ("request_id", "sku_id")
_TRUE = pa.array(["1", "1.0", "true", "True", "TRUE"])


def inputs(config: DataConfig) -> Inputs:
    """Open the sources and check the maps against their columns.

    Raises:
        ConfigError: If a map names a column that no standard table has, or lacks one that is needed.
        DataError: If a source is missing or lacks a mapped column.
    """
    # Read as text, so that a value of the wrong type costs its row, not the file; features keep the type they show.
    as_text = {column: "string" for name, column in config.columns.items() if not name.startswith(IMPRESSIONS.feature_prefixes)}
    source = open_source(config.path, as_text | config.types)
    by_rows = "creative_id" in config.columns
    form = "creative_id" if by_rows else "candidates"
    _check_map("data.columns", config.columns, IMPRESSIONS, (*_KEYS, form), ("creative_id", *_MEMBERS))
    need_columns(source, {column: f"mapped from {name!r} in data.columns" for name, column in config.columns.items()})
    rename = _renamer(config.columns)
    if by_rows:
        impressions = TableInput(IMPRESSIONS, source, rename, Grouping(_KEYS, _fold))
    else:
        impressions = TableInput(IMPRESSIONS, source, lambda rows: _lists(rename(rows), config.list_separator))
    return Inputs(impressions, _creatives(config), _products(config))


def _creatives(config: DataConfig) -> TableInput | None:
    if config.creatives is None:
        return None
    source = open_source(config.creatives, config.types)
    if not config.creative_columns:
        return TableInput(CREATIVES, source)
    _check_map("data.creative_columns", config.creative_columns, CREATIVES, ("creative_id", "sku_id"), ())
    need_columns(source, {column: f"mapped from {name!r} in data.creative_columns" for name, column in config.creative_columns.items()})
    return TableInput(CREATIVES, source, _renamer(config.creative_columns))


def _products(config: DataConfig) -> TableInput | None:
    return None if config.products is None else TableInput(PRODUCTS, open_source(config.products, config.types))


def _check_map(where: str, columns: dict[str, str], schema: TableSchema, needed: tuple[str, ...], extra: tuple[str, ...]) -> None:
    known = [*schema.required.names, *schema.optional.names, *extra]
    for name in columns:
        if name not in known and not (schema.feature_prefixes and name.startswith(schema.feature_prefixes)):
            features = f" or a feature ({', '.join(p + '...' for p in schema.feature_prefixes)})" if schema.feature_prefixes else ""
            raise ConfigError(f"{where}: {name!r} is not a column of table {schema.name!r}{features}", nearest(name, known))
    for name in needed:
        if name not in columns:
            raise ConfigError(f"{where} does not map {name!r}", f"add `{name}: <your column>`")


def _renamer(columns: dict[str, str]) -> Callable[[pa.Table], pa.Table]:
    def rename(rows: pa.Table) -> pa.Table:
        return pa.table({name: rows.column(column) for name, column in columns.items()})

    return rename


def _lists(rows: pa.Table, separator: str) -> pa.Table:
    """Candidate ids and the lists beside them to one list of structs."""
    candidates = _as_list(rows.column("candidates"), separator)
    if pa.types.is_struct(candidates.type.value_type):
        return rows
    lists = {"creative_id": candidates} | {n: _as_list(rows.column(n), separator) for n in _MEMBERS if n in rows.column_names}
    lengths = [pc.fill_null(pc.list_value_length(values), 0).to_numpy() for values in lists.values()]
    aligned = np.all([own == lengths[0] for own in lengths], axis=0) if len(candidates) else np.zeros(0, bool)
    if not aligned.all():
        lists = {n: pc.if_else(pa.array(aligned), values, pa.scalar(None, values.type)) for n, values in lists.items()}
    offsets = np.zeros(len(candidates) + 1, np.int64)
    np.cumsum(np.where(aligned, lengths[0], 0), out=offsets[1:])
    items = pa.StructArray.from_arrays([values.flatten() for values in lists.values()], names=list(lists))
    rest = [name for name in rows.column_names if name not in (*_MEMBERS, "candidates")]
    made = rows.select(rest).append_column("candidates", pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items))
    problem = pa.array(np.full(len(aligned), f"lists {', '.join(lists)} differ in length"), pa.string(), mask=aligned)
    return made.append_column(PROBLEM, problem)


def _as_list(column: pa.ChunkedArray, separator: str) -> pa.Array:
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return array
    text = array.cast(pa.string())
    parts = pc.split_pattern(text, separator)
    return pc.if_else(pc.equal(text, ""), pa.scalar([], parts.type), parts)


def _fold(rows: pa.Table) -> pa.Table:
    """Rows of whole groups to one impression per group."""
    groups = group_rows(rows, _KEYS)
    members = {f.name: _flat(groups.rows.column(f.name)) for f in CANDIDATE if f.name in rows.column_names}
    columns = {name: groups.rows.column(name).take(groups.first) for name in rows.column_names if name not in members}
    columns["candidates"] = groups.lists(pa.StructArray.from_arrays(list(members.values()), names=list(members)))
    if "exposed" in columns:
        columns["exposed"], shown_row, columns[PROBLEM] = _exposed(groups)
        if "clicked" in columns:
            columns["clicked"] = groups.rows.column("clicked").take(shown_row)
    return pa.table(columns)


def _exposed(groups: Groups) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Each group's exposed index (null for none), its row, and what is wrong where several are exposed."""
    flags = pc.is_in(groups.rows.column("exposed").cast(pa.string()), _TRUE).to_numpy().astype(bool)
    offsets = groups.offsets.to_numpy()
    shown = np.add.reduceat(flags, offsets[:-1], dtype=np.int64) if len(offsets) > 1 else np.zeros(0, np.int64)
    segments = np.repeat(np.arange(len(shown)), np.diff(offsets))
    index = np.zeros(len(shown), np.int64)
    where = np.flatnonzero(flags)
    index[segments[where]] = where
    none = shown == 0
    problem = pa.array([f"{count} candidates are marked as exposed" if count > 1 else None for count in shown.tolist()], pa.string())
    return pa.array(index - offsets[:-1], pa.int32(), mask=none), pa.array(index, pa.int64(), mask=none), problem


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
