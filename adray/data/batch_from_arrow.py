"""Arrow impressions to ragged tensors, without a Python loop over rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from adray.data.batch import ImpressionBatch, Ragged
from adray.data.hashing import hash_strings
from adray.errors import DataError

_NOT_FEATURES = frozenset({"candidates", "exposed", "clicked", "timestamp"})


def impressions_to_batch(table: pa.Table) -> ImpressionBatch:
    """Turn rows of `impressions` (or `requests`) into a batch.

    Strings, integers and booleans are hashed into `ids`, floats go to `numbers`, lists of strings or integers to
    `bags`; `timestamp` is left out. Absent or null values become: exposed -1, clicked NaN, propensity NaN,
    impressions 0, clicks 0, number NaN, id 0, bag empty.

    Args:
        table: n rows with at least `candidates`.

    Returns:
        The batch of n lists.

    Raises:
        DataError: If `candidates` is missing or a column has a type that is no feature.
    """
    if "candidates" not in table.column_names:
        raise DataError("column 'candidates' is missing from the impressions", "read it with the other columns")
    items, offsets = _flatten(table.column("candidates"))
    ids: dict[str, Tensor] = {}
    numbers: dict[str, Tensor] = {}
    bags: dict[str, Ragged] = {}
    for field in table.schema:
        if field.name in _NOT_FEATURES:
            continue
        column = table.column(field.name)
        if pa.types.is_floating(field.type):
            numbers[field.name] = _floats(column, float("nan"))
        elif is_id_type(field.type):
            ids[field.name] = torch.from_numpy(hash_strings(column))
        elif is_bag_type(field.type):
            values, bag_offsets = _flatten(column)
            bags[field.name] = Ragged(torch.from_numpy(hash_strings(values)), bag_offsets)
        else:
            raise DataError(f"column {field.name!r} has type {field.type}", "features are strings, integers, floats or lists of strings")
    return ImpressionBatch(
        candidates=Ragged(torch.from_numpy(hash_strings(_member(items, "creative_id", pa.string()))), offsets),
        exposed=_whole(table, "exposed", -1),
        clicked=_optional_floats(table, "clicked"),
        propensity=_floats(_member(items, "propensity", pa.float32()), float("nan")),
        impressions=_floats(_member(items, "impressions", pa.float32()), 0.0),
        clicks=_floats(_member(items, "clicks", pa.float32()), 0.0),
        ids=ids,
        numbers=numbers,
        bags=bags,
    )


def is_id_type(kind: pa.DataType) -> bool:
    """Whether a column of this type is hashed as a single-valued id (string, integer, boolean, or a dictionary of them)."""
    if pa.types.is_dictionary(kind):
        return is_id_type(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def is_bag_type(kind: pa.DataType) -> bool:
    """Whether a column of this type is hashed as a multi-valued feature (a list of ids)."""
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_id_type(kind.value_type)


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _flatten(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, Tensor]:
    """Items and int64 offsets of a list column. Null lists are empty; a slice's offsets start at 0."""
    array = _one_array(column)
    offsets = np.zeros(len(array) + 1, np.int64)
    lengths = pc.list_value_length(array)
    np.cumsum((pc.fill_null(lengths, 0) if lengths.null_count else lengths).to_numpy(), out=offsets[1:])
    return array.flatten(), torch.from_numpy(offsets)


def _member(items: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    if items.type.get_field_index(name) < 0:
        return pa.nulls(len(items), kind)
    return pc.struct_field(items, name)


def _floats(column: pa.ChunkedArray | pa.Array, fill: float) -> Tensor:
    array = _one_array(column)
    if array.null_count == len(array):
        return torch.full((len(array),), fill, dtype=torch.float32)
    # Counts beyond 2**24 lose their last digits in float32, which the losses do not notice.
    array = array.cast(pa.float32(), safe=False)
    if array.null_count:
        array = pc.fill_null(array, pa.scalar(fill, pa.float32()))
    return torch.from_numpy(np.array(array.to_numpy()))


def _optional_floats(table: pa.Table, name: str) -> Tensor:
    if name not in table.column_names:
        return torch.full((table.num_rows,), float("nan"), dtype=torch.float32)
    return _floats(table.column(name), float("nan"))


def _whole(table: pa.Table, name: str, fill: int) -> Tensor:
    if name not in table.column_names:
        return torch.full((table.num_rows,), fill, dtype=torch.int64)
    array = _one_array(table.column(name)).cast(pa.int64())
    return torch.from_numpy(np.array(pc.fill_null(array, fill).to_numpy()))
