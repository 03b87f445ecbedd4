"""ID tables and number buckets: the one place that knows how a feature becomes a vector.

Hashed ids become rows of a table by multiply-shift. Fields of one width share one matrix with an offset per field, so a
half needs one lookup per width. A sharded implementation replaces this module and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adray.data.batch import Ragged
from adray.errors import DataError
from adray.ranking.config import FeatureConfig
from adray.ranking.ragged import Lists, segment_mean

# 2^64 / golden ratio, as a signed 64-bit integer: multiplication spreads low-entropy keys over the high bits.
_FIBONACCI = -7046029254386353131
_INIT_STD = 0.02


class Rows(Protocol):
    """Anything that holds feature columns for a number of rows; `ImpressionBatch` is one."""

    @property
    def ids(self) -> dict[str, Tensor]:
        """Hashed ids, int64 `[n]` each."""

    @property
    def numbers(self) -> dict[str, Tensor]:
        """Numbers, float32 `[n]` each; NaN where null."""

    @property
    def bags(self) -> dict[str, Ragged]:
        """Lists of hashed values, n lists each."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class FieldValues:
    """Feature columns of `rows` rows: ids int64 `[rows]`, numbers float32 `[rows]`, bags of hashed values."""

    rows: int
    ids: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Tensor] = field(default_factory=dict)
    bags: dict[str, Ragged] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.rows


def hash_to_row(hashes: Tensor, rows: int | Tensor) -> Tensor:
    """Rows of hashed ids in a table: 0 for the null id 0, else 1 .. rows - 1.

    Args:
        hashes: int64, any shape.
        rows: Rows of the table (below 2^31), or an int64 tensor of them that broadcasts.
    """
    high = ((hashes * _FIBONACCI) >> 32) & 0xFFFFFFFF
    return torch.where(hashes == 0, 0, 1 + ((high * (rows - 1)) >> 32))


class HashedTable(nn.Module):
    """One embedding matrix for hashed ids; row 0 is null.

    Args:
        rows: Rows, the null row included.
        dim: Width.
        std: Standard deviation of fresh rows.
    """

    def __init__(self, rows: int, dim: int, std: float = _INIT_STD) -> None:
        super().__init__()
        self.rows, self.dim = rows, dim
        self.weight = nn.Parameter(torch.randn(rows, dim) * std)

    def forward(self, hashes: Tensor) -> Tensor:
        """Embed int64 hashes of any shape into `[..., dim]`."""
        return F.embedding(hash_to_row(hashes, self.rows), self.weight)

    def bag(self, values: Ragged) -> Tensor:
        """Sum the embeddings of each list over the root of its length, `[n, dim]`; zeros for an empty one.

        A mean would shrink both the output and every item's gradient with the length, so that the items of long lists
        hardly learn; a sum would let long lists shout. Between the two, the output's variance does not depend on the length.
        """
        # Empty storage would make embedding_bag fail, and every list is empty then.
        if values.values.numel() == 0:
            return self.weight.new_zeros(len(values), self.dim)
        total = F.embedding_bag(hash_to_row(values.values, self.rows), self.weight, values.offsets[:-1], mode="sum")
        return total * values.lengths().clamp(min=1).rsqrt().to(total.dtype).unsqueeze(1)


class FieldTables(nn.Module):
    """Turns feature fields into one vector per row: the fields' embeddings side by side.

    Args:
        fields: The fields; their order is the output's within each width.
        dim: Width of fields that name none.
        boundaries: Ascending bucket boundaries per number column, float32, any length below the field's buckets.
    """

    def __init__(self, fields: Sequence[FeatureConfig], dim: int, boundaries: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.fields = list(fields)
        by_dim: dict[int, list[FeatureConfig]] = {}
        for one in self.fields:
            by_dim.setdefault(one.dim or dim, []).append(one)
        self.groups = nn.ModuleList(TableGroup(group, width, boundaries) for width, group in by_dim.items())
        self.width = sum(width * len(group) for width, group in by_dim.items())

    def forward(self, rows: Rows) -> Tensor:
        """Embed n rows into `[n, width]`.

        Raises:
            DataError: If a field is not among the columns, or of another kind there.
        """
        if not self.fields:
            return torch.zeros(len(rows), 0)
        parts = [group(rows) for group in self.groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def embed_ids(self, name: str, hashes: Tensor) -> Tensor:
        """Embed int64 hashes of any shape with the table of the id field `name`, `[..., dim]`."""
        for group in self.groups:
            if isinstance(group, TableGroup) and name in group.id_names:
                return group.embed_ids(name, hashes)
        raise KeyError(name)


class TableGroup(nn.Module):
    """The fields of one width, in one matrix.

    Args:
        fields: The fields.
        dim: Their width.
        boundaries: As for `FieldTables`.
    """

    id_rows: Tensor
    id_offsets: Tensor
    number_offsets: Tensor
    boundary_bits: Tensor

    def __init__(self, fields: Sequence[FeatureConfig], dim: int, boundaries: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.dim = dim
        kinds = {kind: [f for f in fields if f.kind == kind] for kind in ("id", "number", "bag")}
        self.id_names, self.number_names, self.bag_names = ([f.name for f in kinds[k]] for k in ("id", "number", "bag"))
        ordered = [*kinds["id"], *kinds["number"], *kinds["bag"]]
        starts = np.cumsum([0] + [f.table_rows for f in ordered])
        ids, numbers = len(kinds["id"]), len(kinds["number"])
        self.weight = nn.Parameter(torch.randn(int(starts[-1]), dim) * _INIT_STD)
        self.register_buffer("id_rows", torch.tensor([f.rows for f in kinds["id"]], dtype=torch.int64), persistent=False)
        self.register_buffer("id_offsets", torch.from_numpy(starts[:ids].astype(np.int64)), persistent=False)
        self.register_buffer("number_offsets", torch.from_numpy(starts[ids : ids + numbers].astype(np.int64)), persistent=False)
        self.bag_places = [(int(starts[ids + numbers + i]), f.rows) for i, f in enumerate(kinds["bag"])]
        # Kept as the bits of float32: a trainer that casts a model's floating tensors to bfloat16 must not move boundaries.
        bits = torch.from_numpy(_boundary_matrix(kinds["number"], boundaries)).view(torch.int32)
        self.register_buffer("boundary_bits", bits)

    def forward(self, rows: Rows) -> Tensor:
        """Embed n rows into `[n, fields * dim]`: ids, then numbers, then bags."""
        flat, bags = [], []
        if self.id_names:
            ids = torch.stack([column(rows.ids, name, "id", rows) for name in self.id_names], dim=1)
            flat.append(hash_to_row(ids, self.id_rows) + self.id_offsets)
        if self.number_names:
            numbers = torch.stack([column(rows.numbers, name, "number", rows) for name in self.number_names])
            flat.append(self._buckets(numbers).t() + self.number_offsets)
        for name, (start, table_rows) in zip(self.bag_names, self.bag_places, strict=True):
            bags.append(self._bag(column(rows.bags, name, "bag", rows), start, table_rows))
        parts = []
        if flat:
            index = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
            parts.append(F.embedding(index, self.weight).flatten(1))
        parts += bags
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def embed_ids(self, name: str, hashes: Tensor) -> Tensor:
        """Embed int64 hashes of any shape with the rows of the id field `name`."""
        place = self.id_names.index(name)
        return F.embedding(hash_to_row(hashes, self.id_rows[place]) + self.id_offsets[place], self.weight)

    def _buckets(self, numbers: Tensor) -> Tensor:
        """Bucket of each number, `[fields, n]`: 0 for NaN, else 1 + boundaries below it."""
        boundaries = self.boundary_bits.view(torch.float32)
        found = torch.searchsorted(boundaries, numbers.float().nan_to_num(nan=0.0).contiguous())
        return torch.where(numbers.isnan(), 0, found + 1)

    def _bag(self, values: Ragged, start: int, table_rows: int) -> Tensor:
        lists = Lists.from_offsets(values.offsets)
        return segment_mean(F.embedding(hash_to_row(values.values, table_rows) + start, self.weight), lists.segments, lists.lengths)


def _boundary_matrix(fields: Sequence[FeatureConfig], boundaries: Mapping[str, np.ndarray]) -> np.ndarray:
    width = max((f.buckets - 1 for f in fields), default=0)
    matrix = np.full((len(fields), width), np.inf, dtype=np.float32)
    for row, one in enumerate(fields):
        known = np.asarray(boundaries.get(one.name, ()), dtype=np.float32)
        if known.size > one.buckets - 1:
            known = known[np.linspace(0, known.size - 1, one.buckets - 1).round().astype(int)]
        matrix[row, : known.size] = known
    return matrix


def column(columns: Mapping[str, Tensor] | Mapping[str, Ragged], name: str, kind: str, rows: Rows) -> Any:
    """The column `name` of `columns`, one of the parts of `rows`.

    Raises:
        DataError: If it is absent, or present with another kind.
    """
    try:
        return columns[name]
    except KeyError:
        kinds: dict[str, Mapping[str, Any]] = {"id": rows.ids, "number": rows.numbers, "bag": rows.bags}
        there = next((k for k, held in kinds.items() if name in held), None)
        if there is None:
            raise DataError(f"feature field {name!r} is not a column of the table", "take it out of the model or add the column") from None
        raise DataError(f"feature field {name!r} is configured as {kind}, its column holds {there}", f"set its kind to {there}") from None


def fit_boundaries(values: np.ndarray, buckets: int) -> np.ndarray:
    """Distinct quantile boundaries of a number column.

    Args:
        values: float, any number of them; NaN is left out.
        buckets: Most buckets wanted.

    Returns:
        Ascending float32, at most `buckets - 1`; empty when there is no value.
    """
    values = values[np.isfinite(values)]
    if values.size == 0:
        return np.empty(0, dtype=np.float32)
    shares = np.arange(1, buckets) / buckets
    # An existing value, not a mean of two, is a boundary: heavily tied columns (counts) then keep their atoms apart.
    return np.unique(np.quantile(values, shares, method="lower").astype(np.float32))
