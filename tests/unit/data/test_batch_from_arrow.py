"""Arrow impressions become ragged tensors with the documented fills."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from adray.data.batch_from_arrow import impressions_to_batch
from adray.data.hashing import hash_strings
from adray.data.schema import CANDIDATE
from adray.errors import DataError


def ids(*names: str) -> list[int]:
    return hash_strings(list(names)).tolist()


def example() -> pa.Table:
    candidates = [
        [{"creative_id": "a", "propensity": 0.25}, {"creative_id": "b", "propensity": None}],
        [{"creative_id": "c", "impressions": 10, "clicks": 3}],
        None,
        [{"creative_id": "a"}, {"creative_id": "c"}, {"creative_id": "b"}],
    ]
    return pa.table(
        {
            "request_id": ["r0", "r1", "r2", "r3"],
            "sku_id": ["s0", "s1", None, "s0"],
            "candidates": pa.array(candidates, pa.list_(CANDIDATE)),
            "exposed": pa.array([1, None, None, 2], pa.int32()),
            "clicked": pa.array([1, None, None, 0], pa.int8()),
            "position": pa.array([0, 3, 1, 0], pa.int32()),
            "user_history": [["s1", "s0"], [], None, ["s9"]],
            "sku_price": pa.array([9.5, None, 1.0, 2.0], pa.float64()),
            "timestamp": pa.array([0, 1, 2, 3], pa.timestamp("ms", tz="UTC")),
        }
    )


def test_every_field() -> None:
    batch = impressions_to_batch(example())
    assert len(batch) == 4
    assert batch.candidates.offsets.tolist() == [0, 2, 3, 3, 6]
    assert batch.candidates.values.tolist() == ids("a", "b", "c", "a", "c", "b")
    assert batch.exposed.tolist() == [1, -1, -1, 2] and batch.exposed.dtype == torch.int64
    assert batch.clicked.dtype == torch.float32
    assert batch.clicked[[0, 3]].tolist() == [1, 0] and batch.clicked[1:3].isnan().all()
    assert batch.propensity[0] == 0.25 and batch.propensity[1:].isnan().all()
    assert batch.impressions.tolist() == [0, 0, 10, 0, 0, 0]
    assert batch.clicks.tolist() == [0, 0, 3, 0, 0, 0]
    assert set(batch.ids) == {"request_id", "sku_id", "position"}
    assert batch.ids["sku_id"].tolist() == [*ids("s0", "s1"), 0, *ids("s0")]
    assert batch.ids["position"].tolist() == ids("0", "3", "1", "0")
    assert set(batch.numbers) == {"sku_price"}
    assert batch.numbers["sku_price"][[0, 2, 3]].tolist() == [9.5, 1.0, 2.0] and batch.numbers["sku_price"][1].isnan()
    assert set(batch.bags) == {"user_history"}
    assert batch.bags["user_history"].offsets.tolist() == [0, 2, 2, 2, 3]
    assert batch.bags["user_history"].values.tolist() == ids("s1", "s0", "s9")


@pytest.mark.parametrize("start", [0, 1, 3])
def test_a_slice_is_the_rows_of_the_whole(start: int) -> None:
    whole = impressions_to_batch(example())
    part = impressions_to_batch(example().slice(start))
    low = int(whole.candidates.offsets[start])
    assert part.candidates.offsets.tolist() == (whole.candidates.offsets[start:] - low).tolist()
    assert part.candidates.values.tolist() == whole.candidates.values[low:].tolist()
    bag, whole_bag = part.bags["user_history"], whole.bags["user_history"]
    assert bag.values.tolist() == whole_bag.values[int(whole_bag.offsets[start]) :].tolist()
    assert part.ids["sku_id"].tolist() == whole.ids["sku_id"][start:].tolist()


def test_chunked_input_and_tensors_own_their_memory() -> None:
    table = pa.concat_tables([example().slice(0, 1), example().slice(1)])
    batch = impressions_to_batch(table)
    assert batch.candidates.values.tolist() == impressions_to_batch(example()).candidates.values.tolist()
    batch.numbers["sku_price"].mul_(2)
    assert table.column("sku_price")[0].as_py() == 9.5


def test_requests_without_outcome_columns() -> None:
    batch = impressions_to_batch(example().select(["request_id", "sku_id", "candidates"]))
    assert batch.exposed.tolist() == [-1] * 4 and batch.clicked.isnan().all()


def test_empty_table() -> None:
    batch = impressions_to_batch(example().slice(4))
    assert len(batch) == 0 and batch.candidates.offsets.tolist() == [0]


def test_what_is_no_feature_is_named() -> None:
    with pytest.raises(DataError, match="'user_vector' has type list"):
        impressions_to_batch(example().append_column("user_vector", pa.array([[1.0]] * 4)))
    with pytest.raises(DataError, match="'candidates' is missing"):
        impressions_to_batch(example().drop_columns(["candidates"]))
