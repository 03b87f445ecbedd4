"""Ids hash to the same integers for ever, whatever form they arrive in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from adray.data.hashing import hash_shares, hash_strings


def test_golden_values() -> None:
    # The empty string's XXH3-64 is 0x2D06800538D394C2 in the xxHash specification's test vectors.
    assert hash_strings(["", "sku-1", "色", "1"]).tolist() == [
        0x2D06800538D394C2,
        -2414910190116356169,
        -7500374802655136485,
        7335560060985733464,
    ]


def test_null_is_zero_and_every_form_of_an_id_agrees() -> None:
    texts = ["7", None, "12", "7"]
    expected = hash_strings(texts)
    assert expected.dtype == np.int64
    assert expected[1] == 0 and expected[0] == expected[3] != expected[2]
    for array in (
        pa.array([7, None, 12, 7], pa.int32()),
        pa.array([7, None, 12, 7], pa.int64()),
        pa.array(texts, pa.large_string()),
        pa.array(texts).dictionary_encode(),
        pa.chunked_array([texts[:1], texts[1:]], pa.string()),
        pa.chunked_array([pa.array(texts)]),
        pa.array([*texts, "x"]).slice(0, 4),
    ):
        assert hash_strings(array).tolist() == expected.tolist()


def test_empty_columns() -> None:
    assert hash_strings([]).shape == (0,)
    assert hash_strings(pa.chunked_array([], pa.string())).shape == (0,)
    assert hash_strings(pa.nulls(3)).tolist() == [0, 0, 0]


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=50))
def test_agrees_with_hashing_one_by_one(texts: list[str | None]) -> None:
    expected = [0 if t is None else np.uint64(xxhash.xxh3_64_intdigest(t.encode())).view(np.int64) for t in texts]
    assert hash_strings(texts).tolist() == expected


def test_shares_are_even_and_the_same_in_every_table():
    ids = [f"p{i}" for i in range(4000)]
    shares = hash_shares(ids)
    assert ((shares >= 0) & (shares < 1)).all()
    # Four standard errors of a count of 4,000 draws.
    assert abs((shares < 0.2).mean() - 0.2) < 4 * np.sqrt(0.16 / 4000)
    assert hash_shares(ids[::-1]).tolist() == shares[::-1].tolist()
