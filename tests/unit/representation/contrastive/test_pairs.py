"""Pairs, hard negatives, batches and the judge, on small tables."""

from __future__ import annotations

import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adray.data.bad_rows import BadRowsError
from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.representation.contrastive.batch import PairCollate
from adray.representation.contrastive.config import HardNegativesConfig, PairsConfig
from adray.representation.contrastive.identity import creative_keys, normalised
from adray.representation.contrastive.judge import chance, recall
from adray.representation.contrastive.pairs import held_out, write_pairs
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder, EncoderInputs


class Spy(Encoder):
    """Notes what it is given to prepare."""

    dim = 2

    def __init__(self):
        super().__init__()
        self.seen = []

    def prepare(self, creatives):
        self.seen.append(creatives)
        return EncoderInputs({}, len(creatives))

    def pooled(self, inputs):
        raise NotImplementedError

    def transform(self):
        return {}


def png(value):
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def table(tmp_path, rows):
    columns = ("creative_id", "sku_id", "image", "copy")
    path = tmp_path / "creatives.parquet"
    pq.write_table(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), path)
    return path


def rows(n=40):
    return [(f"c{i}", f"s{i // 4}", {"bytes": png(i), "path": None}, f"copy {i % 5}") for i in range(n)]


def pairs(tmp_path, made, **changes):
    counts = write_pairs(PairsConfig(path=str(table(tmp_path, made)), **{"holdout": 0.3, **changes}), 0, tmp_path / "pairs")
    return counts, pq.read_table(tmp_path / "pairs" / "train"), pq.read_table(tmp_path / "pairs" / "holdout")


def column(found, side, name):
    return [row[side][name] for row in found.to_pylist()]


def test_whole_skus_are_held_out(tmp_path):
    counts, train, holdout = pairs(tmp_path, rows())
    assert counts == {"train": train.num_rows, "holdout": holdout.num_rows, "creatives": 40}
    sides = [set(column(part, "query", "sku_id")) for part in (train, holdout)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 10 and all(sides)


def test_held_out_share_does_not_depend_on_the_rest():
    hashes = hash_strings([f"sku {i}" for i in range(20000)])
    chosen = held_out(hashes, 0.2)
    assert abs(chosen.mean() - 0.2) < 0.015
    assert (held_out(hashes[::7], 0.2) == chosen[::7]).all()


def test_image_copy_leaves_out_what_lacks_one(tmp_path):
    made = rows()
    made[0], made[1] = (*made[0][:2], None, "copy"), (*made[1][:3], "  ")
    _, train, holdout = pairs(tmp_path, made)
    assert {"c0", "c1"}.isdisjoint(column(train, "query", "creative_id") + column(holdout, "query", "creative_id"))
    assert column(train, "query", "creative_id") == column(train, "document", "creative_id")


def test_same_sku_pairs_are_others_of_the_sku(tmp_path):
    made = [*rows(), ("alone", "lonely", {"bytes": png(1), "path": None}, "x")]
    _, train, _ = pairs(tmp_path, made, views=["same_sku"])
    first, second = (column(train, side, "creative_id") for side in ("query", "document"))
    assert "alone" not in first and sorted(first) == sorted(second)
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert column(train, "query", "sku_id") == column(train, "document", "sku_id")


def test_log_frequency_of_copy(tmp_path):
    _, train, _ = pairs(tmp_path, rows())
    copies = column(train, "document", "copy")
    expected = [math.log(copies.count(copy) / len(copies)) for copy in copies]
    assert train.column("document_log_frequency").to_pylist() == pytest.approx(expected, abs=1e-6)
    assert train.column("query_log_frequency").to_pylist() == pytest.approx([-math.log(len(copies))] * len(copies), abs=1e-6)


def test_hard_negatives_are_near_and_of_other_skus(tmp_path):
    angles = np.arange(40) * 0.02
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    embeddings = tmp_path / "embeddings.parquet"
    pq.write_table(pa.table({"creative_id": [f"c{i}" for i in range(40)], "encoder": ["e"] * 40, "vector": list(vectors)}), embeddings)
    hard = HardNegativesConfig(embeddings=str(embeddings), count=2, ceiling=0.9999)
    _, train, _ = pairs(tmp_path, rows(), hard_negatives=hard)
    ids = [int(one[1:]) for one in column(train, "document", "creative_id")]
    there = set(ids)
    for own, row in zip(ids, train.column("hard").to_pylist(), strict=True):
        found = [int(one["creative_id"][1:]) for one in row]
        allowed = [i for i in there if i // 4 != own // 4 and math.cos(0.02 * (i - own)) < 0.9999 + 5e-4]
        assert {abs(i - own) for i in found} == set(sorted(abs(i - own) for i in allowed)[:2])


def test_missing_vectors_are_named(tmp_path):
    embeddings = tmp_path / "embeddings.parquet"
    pq.write_table(pa.table({"creative_id": ["c0"], "encoder": ["e"], "vector": [[1.0, 0.0]]}), embeddings)
    with pytest.raises(DataError, match="has no vector of creative"):
        pairs(tmp_path, rows(), hard_negatives=HardNegativesConfig(embeddings=str(embeddings)))


def test_hard_negatives_are_not_sought_among_two_versions(tmp_path):
    embeddings = tmp_path / "embeddings.parquet"
    values = {"creative_id": [f"c{i}" for i in range(40)], "encoder": ["e"] * 39 + ["f"], "vector": [[1.0, 0.0]] * 40}
    pq.write_table(pa.table(values), embeddings)
    with pytest.raises(DataError, match="mixes vectors of encoder 'e' and encoder 'f'"):
        pairs(tmp_path, rows(), hard_negatives=HardNegativesConfig(embeddings=str(embeddings)))


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(DataError, match="no pairs"):
        pairs(tmp_path, [(f"c{i}", f"s{i}", None, "x") for i in range(9)])


def test_collate_hides_by_view_and_cuts_into_chunks(tmp_path):
    _, train, _ = pairs(tmp_path, rows(), views=["image_copy", "same_sku"])
    both = pa.concat_tables([train.slice(0, 3), train.slice(train.num_rows - 2)])
    spy = Spy()
    batch = PairCollate(spy, chunk_rows=2, picture_side=8)(both)
    assert len(batch) == 5 and [len(chunk) for chunk in batch.queries] == [2, 2, 1] == [len(chunk) for chunk in batch.documents]
    queries, documents = ([c for part in spy.seen[k : k + 3] for c in zip(part.pictures, part.copies, strict=True)] for k in (0, 3))
    assert [(p is not None, bool(c)) for p, c in queries] == [(True, False)] * 3 + [(True, True)] * 2
    assert [(p is not None, bool(c)) for p, c in documents] == [(False, True)] * 3 + [(True, True)] * 2
    assert batch.view.tolist() == [0, 0, 0, 1, 1]
    # What is hidden still tells who is the same.
    assert (batch.keys.copies != 0).all() and (batch.keys.pictures != 0).all()


def test_bad_pictures_are_named(tmp_path):
    made = rows()
    made = [(c, s, {"bytes": b"broken", "path": None} if c == "c3" else i, t) for c, s, i, t in made]
    _, train, holdout = pairs(tmp_path, made)
    part = train if "c3" in column(train, "query", "creative_id") else holdout
    row = column(part, "query", "creative_id").index("c3")
    with pytest.raises(BadRowsError) as error:
        PairCollate(Spy(), 0, 8)(part)
    assert [bad for bad, _ in error.value.rows] == [row]


def test_identities():
    same = np.zeros((4, 4, 3), np.uint8)
    other = same.copy()
    other[0, 0, 0] = 1
    keys = creative_keys(Creatives(list("abcd"), ["s", "s", "t", "t"], [same, same.copy(), other, None], ["Hi  You", "hi you", "", " "]))
    assert keys["picture"][0] == keys["picture"][1] != keys["picture"][2] and keys["picture"][3] == 0
    assert keys["copy"][0] == keys["copy"][1] != 0 and keys["copy"][2] == keys["copy"][3] == 0
    # Hashes must agree between processes: values that were computed once.
    assert keys["sku"][0] == hash_strings(["s"])[0]
    assert normalised("ＳＡＬＥ\u00a0 50%") == "sale 50%"


def test_picture_hash_is_the_same_in_every_process():
    keys = creative_keys(Creatives(["a"], ["s"], [np.arange(12, dtype=np.uint8).reshape(2, 2, 3)], [""]))
    assert keys["picture"][0] == 2183802590941356795, "written down in another process"


def test_recall_by_hand():
    queries = torch.eye(3)
    documents = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.0, 0.5, 0.5]])
    own = torch.eye(3, dtype=torch.bool)
    # Query 0 finds 0 first; query 1 finds 2 first and its own second; query 2 finds its own.
    assert recall(queries, documents, own, 1) == pytest.approx(2 / 3)
    assert recall(queries, documents, own, 2) == 1


def test_equal_vectors_find_nothing():
    same = torch.ones(5, 2)
    assert recall(same, same, torch.eye(5, dtype=torch.bool), 1) == 0
    assert recall(same, same, torch.eye(5, dtype=torch.bool), 5) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(1, 12))
def test_chance_is_hypergeometric(m, r, k):
    r, k = min(r, m), min(k, m)
    relevant = torch.zeros(1, m, dtype=torch.bool)
    relevant[0, :r] = True
    assert chance(relevant, k) == pytest.approx(1 - math.comb(m - r, k) / math.comb(m, k), abs=1e-9)
