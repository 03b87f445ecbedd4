"""Columns of any source brought to a declared table schema: names checked, types cast where nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from adray.data.parquet import nearest
from adray.data.schema import CANDIDATE, IMAGE, TableSchema
from adray.errors import DataError

Problem = tuple[int, str, str]
"""(row, stage, reason)"""

_IMAGE_MEMBERS = ("bytes", "path")


@dataclass(frozen=True)
class Conformed:
    """A table in its declared types.

    Attributes:
        table: Same rows; cells that could not be cast are null.
        problems: Those cells.
    """

    table: pa.Table
    problems: list[Problem]


def target_schema(found: pa.Schema, schema: TableSchema, source: str) -> pa.Schema:
    """The columns and types that a source's rows will have.

    Declared columns come first, in declared order, then feature columns in the source's order. A feature becomes a string,
    int64, float32, or list of strings.

    Args:
        found: The source's columns.
        schema: The declared table.
        source: What to call the source in errors.

    Raises:
        DataError: If a required column is missing, a column is neither declared nor a feature, or a feature has a type
            that none can have. The error names the column and the nearest valid one.
    """
    declared = [*schema.required, *schema.optional]
    known = {field.name for field in declared}
    for name in found.names:
        if name not in known and not (schema.feature_prefixes and name.startswith(schema.feature_prefixes)):
            absent = [n for n in known if n not in found.names]
            prefixes = f" (features begin with {', '.join(schema.feature_prefixes)})" if schema.feature_prefixes else ""
            raise DataError(
                f"{source}: column {name!r} is not one of table {schema.name!r}{prefixes}", nearest_known(name, absent or sorted(known))
            )
        if found.names.count(name) > 1:
            raise DataError(f"{source}: column {name!r} appears twice", "rename one of them")
    for field in schema.required:
        if field.name not in found.names:
            raise DataError(f"{source}: table {schema.name!r} lacks column {field.name!r}", nearest(field.name, found.names))
    fields = [field for field in declared if field.name in found.names]
    fields += [pa.field(f.name, _feature_type(f, source)) for f in found if f.name not in known]
    return pa.schema(fields)


def nearest_known(name: str, names: list[str]) -> str:
    """A hint for a column that should not be there."""
    hint = nearest(name, names)
    return hint if hint.startswith("did you mean") else "rename it or leave it out"


def _feature_type(field: pa.Field, source: str) -> pa.DataType:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.float32()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _feature_type(pa.field(field.name, kind.value_type), source)
        if item in (pa.string(), pa.int64()):
            return pa.list_(pa.string())
    raise DataError(
        f"{source}: feature column {field.name!r} has type {field.type}", "features are strings, integers, floats or lists of strings"
    )


def conform(table: pa.Table, target: pa.Schema) -> Conformed:
    """Cast a table's columns to the target types.

    Args:
        table: Rows whose columns include the target's.
        target: From `target_schema`.

    Raises:
        DataError: If a column has a type from which the target cannot be made at all.
    """
    problems: list[Problem] = []
    columns = []
    for field in target:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        converter = _converter(field)
        columns.append(_cast(array, field, converter, 0, problems))
    return Conformed(pa.Table.from_arrays(columns, schema=target), problems)


def _cast(array: pa.Array, field: pa.Field, convert: Callable[[pa.Array], pa.Array], first: int, problems: list[Problem]) -> pa.Array:
    """Cast all rows at once; where that fails, halve until the failing rows are alone."""
    try:
        return convert(array)
    except (pa.ArrowInvalid, OverflowError) as error:
        if len(array) == 1:
            problems.append((first, "type", f"{field.name}: {_short(array[0].as_py())} is not {field.type}: {_first_line(error)}"))
            return pa.nulls(1, field.type)
        half = len(array) // 2
        parts = [
            _cast(array.slice(0, half), field, convert, first, problems),
            _cast(array.slice(half), field, convert, first + half, problems),
        ]
        return pa.concat_arrays(parts)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise DataError(f"column {field.name!r} has type {array.type}, from which {field.type} cannot be made", _type_cure(field)) from None


def _converter(field: pa.Field) -> Callable[[pa.Array], pa.Array]:
    kind = field.type
    if kind.equals(IMAGE):
        return _to_image
    if pa.types.is_map(kind):
        return lambda array: _to_map(array, kind)
    if pa.types.is_timestamp(kind):
        return lambda array: _to_time(array, kind)
    if kind.equals(pa.list_(CANDIDATE)):
        return _to_candidates
    if pa.types.is_list(kind):
        return lambda array: _to_list(array, kind)
    return lambda array: _plain(array, kind)


def _plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(kind):
        # Rounding to float32 is how numbers reach a model; overflow to infinity is caught as a row's error later.
        return array.cast(kind, safe=False) if not pa.types.is_string(array.type) else array.cast(pa.float64()).cast(kind, safe=False)
    return array.cast(kind)


def _to_time(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        raise pa.ArrowTypeError("a bare number does not say its unit")
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        # With and without a zone are different Arrow types; text without one is taken as UTC.
        try:
            array = array.cast(pa.timestamp("us", tz="UTC"))
        except pa.ArrowInvalid:
            array = array.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(array.type) and array.type.tz is None:
        array = array.cast(pa.timestamp(array.type.unit)).cast(pa.timestamp(array.type.unit, tz="UTC"))
    # Milliseconds are the table's unit: finer parts are cut off.
    return array.cast(kind, safe=False)


def _to_list(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        values = array.flatten()
        return _rebuild_list(array, _plain(values, kind.value_type))
    return array.cast(kind)


def _rebuild_list(array: pa.Array, values: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    mask = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(offsets, values, mask=mask)


def _to_candidates(array: pa.Array) -> pa.Array:
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise pa.ArrowTypeError("not a list")
    items = array.flatten()
    if not pa.types.is_struct(items.type):
        items = pa.StructArray.from_arrays([items], names=["creative_id"])
    names = [f.name for f in items.type]
    if extra := [n for n in names if CANDIDATE.get_field_index(n) < 0]:
        raise DataError(f"candidates have a member {extra[0]!r}", nearest(extra[0], [f.name for f in CANDIDATE]))
    members = [_plain(pc.struct_field(items, f.name), f.type) if f.name in names else pa.nulls(len(items), f.type) for f in CANDIDATE]
    return _rebuild_list(array, pa.StructArray.from_arrays(members, fields=list(CANDIDATE)))


def _to_image(array: pa.Array) -> pa.Array:
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        members = [array.cast(pa.binary()), pa.nulls(len(array), pa.string())]
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        members = [pa.nulls(len(array), pa.binary()), array.cast(pa.string())]
    elif pa.types.is_null(array.type):
        return pa.nulls(len(array), IMAGE)
    else:
        names = [f.name for f in array.type] if pa.types.is_struct(array.type) else []
        if not names or set(names) - set(_IMAGE_MEMBERS):
            raise pa.ArrowTypeError("not an image")
        members = [pc.struct_field(array, f.name).cast(f.type) if f.name in names else pa.nulls(len(array), f.type) for f in IMAGE]
    empty = pc.and_(members[0].is_null(), members[1].is_null())
    return pa.StructArray.from_arrays(members, fields=list(IMAGE), mask=empty)


def _to_map(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_struct(array.type):
        names = [f.name for f in array.type]
        rows = [None if row is None else [(n, str(row[n])) for n in names if row[n] is not None] for row in array.to_pylist()]
        return pa.array(rows, kind)
    return array.cast(kind)


def _type_cure(field: pa.Field) -> str:
    if pa.types.is_timestamp(field.type):
        return "store a timestamp type or ISO 8601 text"
    if field.type.equals(IMAGE):
        return "store struct<bytes, path>, bytes, or a path as text"
    return "store that type"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:120]
