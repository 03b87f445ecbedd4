from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.ranking.catalogue import build_catalogue
from adray.ranking.ngrams import hash_ngrams


def write(path, ids, **columns):
    pq.write_table(pa.table({"creative_id": ids, "sku_id": ["s"] * len(ids), **columns}), path)
    return str(path)


def grams(text: str) -> list[int]:
    return hash_ngrams(pa.array([text]))[0].tolist()


def test_every_creative_is_found_with_its_own_features(market):
    table = pq.read_table(market.creatives).to_pylist()
    catalogue = market.catalogue
    rows = catalogue.lookup(hash_strings([r["creative_id"] for r in table]))
    assert len(catalogue) == len(table) and sorted(rows) == list(range(len(table)))
    assert (np.diff(catalogue.creatives) > 0).all()
    elements, ngrams = catalogue.elements.take(rows), catalogue.ngrams.take(rows)
    for i, row in enumerate(table):
        assert catalogue.names.text(rows[i]) == row["creative_id"]
        assert catalogue.sku_names.text(rows[i]) == row["sku_id"]
        assert catalogue.skus[rows[i]] == hash_strings([row["sku_id"]])[0]
        own = elements.values[elements.offsets[i] : elements.offsets[i + 1]]
        assert own.tolist() == hash_strings([f"{slot}={value}" for slot, value in row["elements"]]).tolist()
        assert ngrams.values[ngrams.offsets[i] : ngrams.offsets[i + 1]].tolist() == grams(row["copy"])


def test_unknown_creatives_have_row_minus_one_and_empty_lists(market):
    rows = market.catalogue.lookup(hash_strings(["nobody", "c0-0"]))
    assert rows[0] == -1 and rows[1] >= 0
    assert np.diff(market.catalogue.elements.take(rows).offsets).tolist() == [0, 2]


def test_pickles_as_its_folder(market):
    payload = pickle.dumps(market.catalogue)
    assert len(payload) < 1000
    assert np.array_equal(pickle.loads(payload).creatives, market.catalogue.creatives)


def test_tables_without_copy_or_elements_and_null_values(tmp_path):
    bare = build_catalogue(write(tmp_path / "a.parquet", ["x", "y"]), tmp_path / "a")
    assert bare.elements.values.size == bare.ngrams.values.size == bare.content_dim == 0 and len(bare) == 2
    nulls = build_catalogue(write(tmp_path / "b.parquet", ["x", "y"], copy=[None, "one two"]), tmp_path / "b")
    assert np.diff(nulls.ngrams.offsets)[nulls.lookup(hash_strings(["x", "y"]))].tolist() == [0, 3]


def test_a_repeated_creative_is_named(tmp_path):
    with pytest.raises(DataError, match="creative_id 'x' occurs twice"):
        build_catalogue(write(tmp_path / "a.parquet", ["x", "y", "x"]), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def embeddings(path, ids, vectors, encoder=None):
    columns = {"creative_id": ids, "encoder": encoder or ["e"] * len(ids), "vector": pa.array(vectors, pa.list_(pa.float16()))}
    pq.write_table(pa.table(columns), path)
    return str(path)


def f16(*values):
    return [np.float16(v) for v in values]


def test_content_is_joined_by_id(tmp_path):
    source = write(tmp_path / "c.parquet", ["x", "y", "z"])
    vectors = embeddings(tmp_path / "e.parquet", ["z", "other", "x"], [f16(1, 2), f16(9, 9), f16(3, 4)])
    catalogue = build_catalogue(source, tmp_path / "c", vectors)
    assert catalogue.content[catalogue.lookup(hash_strings(["x", "y", "z"]))].tolist() == [[3, 4], [0, 0], [1, 2]]


@pytest.mark.parametrize(
    ("vectors", "encoder", "message"),
    [
        ([f16(1, 2), f16(1, 2, 3)], None, "several widths"),
        ([f16(1, 2), f16(1, 2)], ["e", "g"], "encoders"),
        ([f16(1, 2), f16(1, float("nan"))], None, "not finite"),
    ],
)
def test_bad_embeddings_are_refused(tmp_path, vectors, encoder, message):
    source = write(tmp_path / "c.parquet", ["x", "y"])
    with pytest.raises(DataError, match=message):
        build_catalogue(source, tmp_path / "c", embeddings(tmp_path / "e.parquet", ["x", "y"], vectors, encoder))


def attributes(path, ids, tokens):
    pq.write_table(pa.table({"creative_id": ids, "tokens": pa.array(tokens, pa.list_(pa.string()))}), path)
    return str(path)


def test_attributes_are_joined_by_id_and_the_last_extraction_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("adray.ranking.catalogue._READ_ROWS", 2)
    source = write(tmp_path / "c.parquet", ["x", "y", "z"])
    tokens = [["style=bold", "colour=red"], ["style=new"], None, ["style=plain"]]
    catalogue = build_catalogue(source, tmp_path / "c", None, attributes(tmp_path / "a.parquet", ["x", "other", "z", "x"], tokens))
    found = catalogue.attributes.take(catalogue.lookup(hash_strings(["x", "y", "z"])))
    assert found.values.tolist() == hash_strings(["style=plain"]).tolist()
    assert found.offsets.tolist() == [0, 1, 1, 1]
    whole = attributes(tmp_path / "b.parquet", ["z", "y"], [["a=1", "b=2"], ["c=3"]])
    again = build_catalogue(source, tmp_path / "d", None, whole)
    found = again.attributes.take(again.lookup(hash_strings(["x", "y", "z"])))
    assert found.values.tolist() == hash_strings(["c=3", "a=1", "b=2"]).tolist()
    assert found.offsets.tolist() == [0, 0, 1, 3]


def test_tables_of_other_creatives_are_refused(tmp_path):
    source = write(tmp_path / "c.parquet", ["x", "y"])
    with pytest.raises(DataError, match="a.parquet names none of the creatives"):
        build_catalogue(source, tmp_path / "c", None, attributes(tmp_path / "a.parquet", ["other"], [["a=1"]]))
    with pytest.raises(DataError, match="e.parquet names none of the creatives"):
        build_catalogue(source, tmp_path / "c", embeddings(tmp_path / "e.parquet", ["other"], [f16(1, 2)]))
    with pytest.raises(DataError, match="has no column 'tokens'"):
        build_catalogue(source, tmp_path / "c", None, source)


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        build_catalogue(str(tmp_path / "none.parquet"), tmp_path / "c")


# ---- n-grams ---------------------------------------------------------------------------------------------------------


def test_words_then_pairs_with_texts_kept_apart():
    values, offsets = hash_ngrams(pa.array(["a b c", None, "", "b c", "a"]))
    assert offsets.tolist() == [0, 5, 5, 5, 8, 9]
    assert values[:3].tolist() == hash_strings(["a", "b", "c"]).tolist()
    assert values[4] == values[7] and values[3] not in values[4:].tolist()


def test_pairs_know_their_order():
    assert grams("a b")[2] != grams("b a")[2]


def test_case_quotes_and_punctuation():
    assert grams("Don't MISS it, now") == grams("dont miss it now") == grams("  don’t\tmiss it — now ")
    assert len(grams("50% off!")) == 4 + 3
    assert grams("really?") != grams("really")


def test_characters_are_the_words_of_unspaced_scripts():
    assert len(grams("新品上市")) == 4 + 3
    assert set(grams("上市")) < set(grams("新品上市"))
    assert len(grams("新品 sale 9")) == 4 + 3
