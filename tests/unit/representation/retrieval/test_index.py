"""Indexes: exact where they claim to be, one in many shards, refused where they would be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from adray.artifact import load_artifact
from adray.checks import raise_first
from adray.data.hashing import hash_strings
from adray.errors import ArtifactError, ConfigError, DataError, ResourceError
from adray.representation.embedding.provenance import Provenance, embeddings_table
from adray.representation.retrieval import verbs
from adray.representation.retrieval.config import IndexRunConfig
from adray.representation.retrieval.exact import ExactSearch
from adray.representation.retrieval.publish import publishing
from adray.representation.retrieval.search import NONE, Found, Shard, merge, open_index
from adray.run import Run

DIM = 24
RANDOM = np.random.default_rng(0)


def unit(rows: int, dim: int = DIM) -> np.ndarray:
    vectors = RANDOM.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def provenance(**changes) -> Provenance:
    return Provenance(**{"encoder": "e" * 64, "prompt": "", "transform": "t", "dim": DIM, "normalised": True, **changes})


def write(path, vectors: np.ndarray, made_by: Provenance, first: int = 0, groups: int = 100) -> str:
    names = [f"creative-{i}" for i in range(first, first + len(vectors))]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(embeddings_table(names, names, vectors, made_by), path, row_group_size=groups)
    return str(path.parent)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    # A few exact copies, as catalogues have.
    found = unit(900)
    found[500:520] = found[3]
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory, vectors) -> str:
    return write(tmp_path_factory.mktemp("t") / "embeddings" / "part-a.parquet", vectors, provenance())


def built(tmp_path, table, **settings):
    config = IndexRunConfig(kind="index", name="i", runs_dir=str(tmp_path), embeddings=table, **settings)
    run = Run("i", tmp_path / "i")
    verbs.index(config, run)
    return run, open_index(tmp_path / "i" / "index")


def stored(vectors: np.ndarray) -> np.ndarray:
    kept = vectors.astype(np.float16).astype(np.float32)
    return kept / np.linalg.norm(kept, axis=1, keepdims=True)


def brute_force(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    ids = hash_strings([f"creative-{i}" for i in range(len(vectors))])
    scores = (queries.astype(np.float64) @ stored(vectors).T.astype(np.float64)).round(6)
    order = np.stack([np.lexsort((ids, -row)) for row in scores])[:, :k]
    return ids[order], np.take_along_axis(scores, order, 1)


def overlap(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("shards", [1, 4])
def test_flat_is_numpys_top_k_in_one_shard_and_in_many(tmp_path, table, vectors, shards):
    run, index = built(tmp_path, table, shards=shards)
    queries = np.concatenate([unit(40), stored(vectors)[[3, 510]]])
    ids, scores = brute_force(queries, vectors, 12)
    found = index.search(queries, 12)
    np.testing.assert_allclose(found.scores, scores, atol=2e-6)
    # Equal vectors may be scored differently in the last bit, so which of the copies come is open; all else is not.
    copies = hash_strings([f"creative-{i}" for i in (3, *range(500, 520))])
    same = (found.ids == ids) | (np.isin(found.ids, copies) & np.isin(ids, copies))
    assert same.all()
    assert all(len(set(row)) == 12 for row in found.ids.tolist())
    # One query is scored without matrix blocks: of equal scores the smallest ids come, in order.
    np.testing.assert_array_equal(index.search(queries[40:41], 12).ids, np.sort(copies)[None, :12])
    assert run.metrics["representation/index/ann_recall"] == 1.0
    assert run.metrics["representation/index/rows"] == 900


def test_an_ivf_index_reaches_everything_at_all_lists(tmp_path, table, vectors):
    queries = unit(50)
    # The copies are equally near.
    table = write(tmp_path / "distinct" / "a.parquet", np.delete(vectors, slice(500, 520), 0), provenance())
    _, index = built(tmp_path / "again", table, factory="IVF16,Flat", shards=3)
    exact = brute_force(queries, np.delete(vectors, slice(500, 520), 0), 10)[0]
    recall = [
        np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(index.search(queries, 10, nprobe=n).ids, exact, strict=True)])
        for n in (1, 4, 16)
    ]
    assert recall[0] < recall[1] < recall[2] == 1.0


@pytest.mark.parametrize("factory", ["IVF8,Flat", "PQ8x4,RFlat", "IVF8,PQ8x4fs,RFlat", "OPQ8,IVF4,PQ8x4,RFlat"])
def test_shards_trained_once_find_what_one_index_finds(tmp_path, table, factory):
    queries = unit(30)
    one = built(tmp_path / "one", table, factory=factory, nprobe=4, refine=4)[1].search(queries, 5)
    many = built(tmp_path / "many", table, factory=factory, nprobe=4, refine=200, shards=3)[1].search(queries, 5)
    if factory == "IVF8,Flat":
        np.testing.assert_array_equal(many.ids, one.ids)
    else:
        # Codes are the same, so exact re-scoring of more candidates can only find nearer ones.
        assert (many.scores >= one.scores - 1e-6).all()


def test_refining_and_its_candidates_raise_a_coarse_index(tmp_path, table):
    recall = {}
    for name, factory, refine in (("codes", "PQ4x4", 1), ("k", "PQ4x4,RFlat", 1), ("many", "PQ4x4,RFlat", 40)):
        recall[name] = built(tmp_path / name, table, factory=factory, refine=refine)[0].metrics["representation/index/ann_recall"]
    assert recall["codes"] <= recall["k"] + 1e-9 < recall["many"]
    assert recall["many"] > 0.95


def test_hnsw_keeps_more_candidates_when_told(tmp_path, table):
    _, index = built(tmp_path, table, factory="HNSW8")
    queries = unit(60)
    exact = ExactSearch(queries, 10)
    recall = []
    for ef in (1, 300):
        ids = index.search(queries, 10, ef_search=ef).ids
        if not recall:
            from adray.representation.embedding.provenance import iterate_vectors

            for names, block in iterate_vectors(table, provenance()):
                exact.add(names, block)
        recall.append(exact.recall(ids))
    assert recall[0] < recall[1]
    assert recall[1] > 0.9


def test_names_lead_back_to_the_creatives(tmp_path, table, vectors):
    _, index = built(tmp_path, table, shards=3)
    found = index.search(stored(vectors)[[7, 800]], 1)
    assert [index.names(found.ids)[int(i)] for i in found.ids[:, 0]] == ["creative-7", "creative-800"]


def test_more_neighbours_than_vectors_leaves_places_empty(tmp_path):
    few = unit(3)
    table = write(tmp_path / "few" / "a.parquet", few, provenance())
    for shards in (1, 2):
        found = built(tmp_path / str(shards), table, shards=shards, check_queries=0)[1].search(few, 5)
        assert (found.ids[:, 3:] == NONE).all()
        assert (found.ids[:, :3] != NONE).all()


def test_the_wrong_metric_raises(tmp_path, table, vectors):
    with pytest.raises(ConfigError, match="'l2'.*normalised.*inner_product"):
        built(tmp_path, table, metric="l2")
    raw = 3 * vectors + 1
    lengthy = write(tmp_path / "raw" / "a.parquet", raw, provenance(normalised=False))
    with pytest.raises(ConfigError, match="not normalised.*set metric=l2"):
        built(tmp_path, lengthy)
    _, index = built(tmp_path, lengthy, metric="l2")
    kept = raw.astype(np.float16).astype(np.float64)
    distances = np.square(kept[:5, None] - kept[None]).sum(2)
    np.testing.assert_allclose(index.search(kept[:5].astype(np.float32), 3).scores, np.sort(distances, 1)[:, :3], rtol=1e-3, atol=1e-2)


def test_inner_product_orders_normalised_vectors_as_l2_does(vectors):
    exact, other = (ExactSearch(unit(20), 8, metric) for metric in ("inner_product", "l2"))
    other.queries = exact.queries
    distinct = np.delete(vectors, slice(500, 520), 0)
    ids = np.arange(len(distinct))
    for one in (exact, other):
        one.add(ids, distinct)
    np.testing.assert_array_equal(exact.found.ids, other.found.ids)


def test_mixed_versions_are_refused(tmp_path, vectors):
    write(tmp_path / "mix" / "a.parquet", vectors[:10], provenance())
    table = write(tmp_path / "mix" / "b.parquet", vectors[10:20], provenance(encoder="f" * 64), first=10)
    with pytest.raises(DataError, match=r"mixes vectors of encoder eeeeeeeeeeee\.\.\. and encoder ffffffffffff\.\.\."):
        built(tmp_path, table)
    assert not (tmp_path / "i" / "index").exists()


def test_an_id_twice_is_refused_across_shards(tmp_path, vectors):
    write(tmp_path / "twice" / "a.parquet", vectors[:10], provenance())
    table = write(tmp_path / "twice" / "b.parquet", vectors[:1], provenance())
    with pytest.raises(DataError, match="creative_id twice"):
        built(tmp_path, table, shards=2)


def test_vectors_that_are_not_what_their_table_says_are_refused(tmp_path, vectors):
    table = write(tmp_path / "long" / "a.parquet", 2 * vectors, provenance())
    with pytest.raises(DataError, match="length 2.000"):
        built(tmp_path, table)


@pytest.mark.parametrize(
    ("factory", "message"), [("IVF1024,Flat", "needs 1024 vectors at least, .* has 900"), ("Falt", "'Falt'"), ("PQ7", "'PQ7'")]
)
def test_a_factory_that_cannot_work_is_one_line(tmp_path, table, factory, message):
    with pytest.raises(ConfigError, match=message) as caught:
        built(tmp_path, table, factory=factory)
    assert "\n" not in str(caught.value)


def test_queries_of_another_version_width_or_length_are_refused(tmp_path, table):
    _, index = built(tmp_path, table)
    with pytest.raises(DataError, match="vectors of 24"):
        index.search(unit(2, 8), 1)
    with pytest.raises(DataError, match=r"shape \(24,\)"):
        index.search(unit(1)[0], 1)
    for rows in (1, 2):
        with pytest.raises(DataError, match="a query has length 2.000"):
            index.search(2 * unit(rows), 1)
        with pytest.raises(DataError, match="a query has length nan"):
            index.search(np.full((rows, DIM), np.nan, np.float32), 1)
    with pytest.raises(DataError, match="0 neighbours are wanted"):
        index.search(unit(1), 0)
    with pytest.raises(ArtifactError, match="transform 't' and transform 'other'"):
        open_index(tmp_path / "i" / "index", expect=provenance(transform="other"))


def test_queries_of_another_type_or_layout_are_read_as_what_they_say(tmp_path, table):
    _, index = built(tmp_path, table)
    queries = unit(6)
    expected = index.search(queries, 5)
    apart = np.repeat(queries.astype(np.float64), 2, axis=1)[:, ::2]
    for found in (index.search(apart, 5), index.search(np.asfortranarray(queries), 5)):
        np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(np.concatenate([index.search(apart[i : i + 1], 5).ids for i in range(6)]), expected.ids)
    # Answers are the caller's own: the next search does not write into them.
    first = index.search(queries[:1], 5)
    kept = first.scores.copy()
    index.search(queries[1:2], 5)
    np.testing.assert_array_equal(first.scores, kept)


def test_a_shard_of_another_width_than_its_artifact_says_is_not_searched(tmp_path, table):
    built(tmp_path, table)
    artifact = load_artifact(tmp_path / "i" / "index", "index")
    settings = {**artifact.config, "provenance": provenance(dim=DIM + 8).as_dict()}
    with pytest.raises(ArtifactError, match="shard 0 .* holds vectors of 24 values"):
        Shard(artifact.folder, 0, settings)


def test_a_damaged_shard_is_not_given_to_faiss(tmp_path, table):
    built(tmp_path, table)
    path = next((tmp_path / "i" / "index").glob("*.faiss"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="damaged"):
        open_index(tmp_path / "i" / "index")


def test_index_json_tells_provenance_and_sizes(tmp_path, table):
    run, _ = built(tmp_path, table, shards=2)
    assert run.metrics["representation/index/add_rows_per_s"] == pytest.approx(900 / run.seconds["add"])
    told = json.loads((tmp_path / "i" / "index" / "index.json").read_text())
    assert told["provenance"] == provenance().as_dict()
    assert [shard["rows"] for shard in told["shards"]] == [450, 450]
    # Flat keeps float32 as it is.
    assert all(shard["bytes"] >= 450 * DIM * 4 for shard in told["shards"])


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this Faiss can use GPUs")
def test_a_faiss_without_gpus_is_told_before_anything_is_built(tmp_path, table):
    config = IndexRunConfig(kind="index", name="i", runs_dir=str(tmp_path), embeddings=table, gpus=True)
    with pytest.raises(ResourceError, match="this Faiss sees no GPU; install adray"):
        raise_first(verbs.checks(config, "index"))


READER = """
import sys
from pathlib import Path
from adray.representation.retrieval.publish import read_published
link, stop = Path(sys.argv[1]), Path(sys.argv[2])
seen = set()
print("ready", flush=True)
while not stop.exists():
    texts = read_published(link, lambda folder: {(folder / name).read_text() for name in ("a", "b")})
    assert len(texts) == 1, texts
    seen |= texts
print(len(seen))
"""


def test_readers_see_the_old_version_or_the_new_one(tmp_path):
    link = tmp_path / "published"

    def publish(text: str) -> None:
        with publishing(link) as version:
            version.mkdir()
            for name in ("a", "b"):
                (version / name).write_text(text)

    publish("0")
    reader = subprocess.Popen([sys.executable, "-c", READER, str(link), str(tmp_path / "stop")], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    for number in range(200):
        before = os.readlink(link)
        publish(str(number + 1))
        assert (tmp_path / before / "a").exists()
    (tmp_path / "stop").touch()
    assert reader.wait(timeout=60) == 0
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".published")]) == 2


def test_publishing_leaves_indexes_of_similar_names_alone(tmp_path):
    for name in ("shop", "shop.cn", "shop", "shop", "shop"):
        with publishing(tmp_path / name) as version:
            version.mkdir()
            (version / "x").write_text(name)
    assert [(tmp_path / name / "x").read_text() for name in ("shop", "shop.cn")] == ["shop", "shop.cn"]
    # The version before is kept, older ones are gone.
    assert len([one for one in tmp_path.iterdir() if not one.is_symlink()]) == 2 + 1


def test_a_failed_build_leaves_the_old_version(tmp_path):
    link = tmp_path / "published"
    with publishing(link) as version:
        version.mkdir()
    before = os.readlink(link)
    with pytest.raises(RuntimeError), publishing(link) as version:
        version.mkdir()
        raise RuntimeError
    assert os.readlink(link) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_merging_breaks_ties_by_id_and_puts_empty_places_last():
    parts = [
        Found(np.array([[9, 4, NONE]]), np.array([[0.5, 0.2, 3.0]], np.float32)),
        Found(np.array([[2, 1]]), np.array([[0.5, 0.2]], np.float32)),
    ]
    found = merge(parts, 4, "inner_product")
    assert found.ids.tolist() == [[2, 9, 1, 4]]
    assert merge(parts, 5, "inner_product").ids[0, -1] == NONE
    assert merge(parts, 4, "l2").ids.tolist() == [[1, 4, 2, 9]]
