from __future__ import annotations

import numpy as np
import pytest
import torch

from adray.data.batch import Ragged
from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.ranking.config import FeatureConfig
from adray.ranking.tables import FieldTables, FieldValues, HashedTable, fit_boundaries, hash_to_row


def test_null_is_row_zero_and_nothing_else_is():
    hashes = torch.from_numpy(hash_strings([f"id{i}" for i in range(20_000)]))
    rows = hash_to_row(hashes, 100)
    assert hash_to_row(torch.tensor([0]), 100).item() == 0
    assert rows.min() == 1 and rows.max() == 99


def test_rows_are_even_for_hashes_and_for_small_integers():
    for keys in (torch.from_numpy(hash_strings([f"id{i}" for i in range(99_000)])), torch.arange(1, 99_001), -torch.arange(1, 99_001)):
        counts = torch.bincount(hash_to_row(keys, 100), minlength=100)[1:]
        # 1000 expected in each row; 5 standard deviations of a uniform hash are 158.
        assert counts.min() > 840 and counts.max() < 1160


def test_row_is_the_multiply_shift_of_the_hash():
    key = 123_456_789_012_345
    high = (key * 0x9E3779B97F4A7C15 % 2**64) >> 32
    assert hash_to_row(torch.tensor([key]), 1000).item() == 1 + high * 999 // 2**32


FIELDS = [
    FeatureConfig(name="city", rows=50),
    FeatureConfig(name="price", kind="number", buckets=4),
    FeatureConfig(name="tags", kind="bag", rows=40),
    FeatureConfig(name="wide", rows=30, dim=3),
]


def values(rows: int = 4) -> FieldValues:
    hashes = torch.from_numpy(hash_strings(["a", "b", None, "a"]))[:rows]
    offsets = torch.tensor([0, 2, 2, 3, 3])[: rows + 1]
    tags = Ragged(torch.from_numpy(hash_strings(["x", "y", "x"]))[: offsets[-1]], offsets)
    price = torch.tensor([1.0, 2.5, float("nan"), 9.0])[:rows]
    return FieldValues(rows, {"city": hashes, "wide": hashes}, {"price": price}, {"tags": tags})


@pytest.fixture
def tables() -> FieldTables:
    torch.manual_seed(0)
    return FieldTables(FIELDS, 2, {"price": np.array([1.0, 2.0, 4.0], np.float32)})


def test_fields_stand_side_by_side_at_their_own_offsets(tables):
    out = tables(values())
    assert out.shape == (4, tables.width) == (4, 9)
    weight = tables.groups[0].weight
    city = hash_to_row(torch.from_numpy(hash_strings(["a", "b", None, "a"])), 50)
    assert torch.equal(out[:, :2], weight[city])
    # Buckets: 1.0 <= 1 -> 0, 2.5 in (2, 4] -> 2, null -> row 0, 9.0 > 4 -> 3; rows are one further on.
    assert torch.equal(out[:, 2:4], weight[50 + torch.tensor([1, 3, 0, 4])])
    x, y = (weight[55 + hash_to_row(torch.from_numpy(hash_strings([t])), 40)][0] for t in "xy")
    assert torch.allclose(out[:, 4:6], torch.stack([(x + y) / 2, torch.zeros(2), x, torch.zeros(2)]))
    assert torch.equal(out[:, 6:], tables.groups[1].weight[hash_to_row(torch.from_numpy(hash_strings(["a", "b", None, "a"])), 30)])


def test_an_id_fields_table_can_embed_other_hashes(tables):
    assert torch.equal(tables.embed_ids("city", values().ids["city"]), tables(values())[:, :2])


def test_boundaries_survive_a_cast_to_bfloat16():
    torch.manual_seed(0)
    tables = FieldTables([FIELDS[1]], 2, {"price": np.array([1.001, 1.002, 1.003], np.float32)})
    rows = FieldValues(2, {}, {"price": torch.tensor([1.0015, 1.0025])})
    before = tables(rows).argmax(1), tables(rows)
    after = tables.to(torch.bfloat16)(rows)
    assert torch.allclose(before[1].bfloat16(), after)
    assert not torch.equal(before[1][0], before[1][1])


def test_every_row_gets_its_own_gradient(tables):
    tables(values(2)).sum().backward()
    touched = tables.groups[0].weight.grad.abs().sum(1).nonzero().numel()
    assert touched == 2 + 2 + 2


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [("absent", "id", "not a column"), ("price", "id", "holds number"), ("city", "number", "holds id"), ("city", "bag", "holds id")],
)
def test_a_missing_or_mistaken_column_is_named(column, kind, message):
    with pytest.raises(DataError, match=f"'{column}'.*{message}"):
        FieldTables([FeatureConfig(name=column, kind=kind)], 2, {})(values())


def test_bag_sums_over_the_root_of_its_length_and_an_empty_bag_is_zero():
    table = HashedTable(20, 3)
    lists = values().bags["tags"]
    out = table.bag(lists)
    assert torch.allclose(out[0], table(lists.values[:2]).sum(0) / 2**0.5) and torch.equal(out[1], torch.zeros(3))
    assert torch.equal(table.bag(Ragged(torch.empty(0, dtype=torch.long), torch.zeros(3, dtype=torch.long))), torch.zeros(2, 3))


def test_boundaries_are_quantiles_and_keep_tied_values_apart():
    assert fit_boundaries(np.arange(100, dtype=np.float32), 4).tolist() == [24.0, 49.0, 74.0]
    assert fit_boundaries(np.array([0.0] * 90 + [1.0] * 6 + [5.0] * 4 + [np.nan]), 20).tolist() == [0.0, 1.0]
    assert fit_boundaries(np.array([np.nan, np.inf]), 4).size == 0


def test_infinite_numbers_land_in_the_outer_buckets(tables):
    price = torch.tensor([float("inf"), float("-inf")])
    found = tables.groups[0]._buckets(price.unsqueeze(0))
    assert found.tolist() == [[4, 1]]
