"""The embedding job and the index on Ray: the same result as without it."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from adray import kinds
from adray.data.schema import IMAGE
from adray.errors import DataError, ResourceError
from adray.representation.embedding.provenance import iterate_vectors, read_provenance
from adray.representation.retrieval.search import open_index

pytestmark = pytest.mark.usefixtures("ray_cluster")


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    images = [{"bytes": png(i) if i != 7 else b"broken", "path": None} for i in range(90)]
    table = pa.table(
        {"creative_id": [f"c{i:03d}" for i in range(90)], "sku_id": [f"s{i // 3}" for i in range(90)], "image": pa.array(images, IMAGE)}
    )
    pq.write_table(table, folder / "creatives.parquet", row_group_size=40)
    return {
        "kind": "embedding",
        "runs_dir": str(folder / "runs"),
        "data": {"creatives": str(folder / "creatives.parquet"), "quarantine_limit": 0.05},
        "encoder": {"kind": "resnet", "image_size": 32, "depths": [1], "widths": [8]},
    }


def embed(values, name, **job):
    settings = {"chunk_rows": 8, "batch_rows": 4, "threads": 1, **job}
    return kinds.perform(kinds.make_job({**values, "name": name, "job": settings}, "test"), "embed")


@pytest.fixture(scope="module")
def alone(values, ray_cluster):
    return embed(values, "alone")[0].folder


def test_two_actors_write_the_bytes_that_no_actor_writes(values, alone):
    run, report = embed(values, "pool", workers=2, prefetch=2)
    files = {path.name: path.read_bytes() for path in (alone / "embeddings").glob("*.parquet")}
    assert {path.name: path.read_bytes() for path in (run.folder / "embeddings").glob("*.parquet")} == files
    assert len(files) > 8
    assert report["metrics"]["representation/embed/rows"] == 89
    lost = {path.name: path.read_bytes() for path in (alone / "quarantine").glob("*.parquet")}
    assert {path.name: path.read_bytes() for path in (run.folder / "quarantine").glob("*.parquet")} == lost


def test_an_actors_error_is_the_users_one_line(values):
    with pytest.raises(DataError, match="first c007: image: 6 bytes"):
        embed({**values, "data": {**values["data"], "quarantine_limit": 0.0}}, "strict", workers=2)


def test_workers_that_never_fit_are_refused(values):
    with pytest.raises(ResourceError, match="workers x 1 CPUs"):
        embed(values, "crowd", workers=500)


def test_shards_in_actors_find_what_one_shard_finds(values, alone):
    table = str(alone / "embeddings")
    index = {"kind": "index", "runs_dir": values["runs_dir"], "embeddings": table, "check_queries": 0}
    one = kinds.perform(kinds.make_job({**index, "name": "one"}, "test"), "index")[0].folder
    many = kinds.perform(kinds.make_job({**index, "name": "many", "shards": 3, "workers": 2}, "test"), "index")[0].folder
    queries = np.concatenate([vectors for _, vectors in iterate_vectors(table, read_provenance(table))])[::7]
    with open_index(one / "index") as single, open_index(many / "index", actors=True) as sharded:
        expected, found = single.search(queries, 5), sharded.search(queries, 5)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        assert sharded.names(found.ids[:1]) == single.names(found.ids[:1])
