"""Embedding creatives that an adapter makes of another source: a ranker that reads the same source finds each vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from adray import kinds
from adray.checks import raise_first
from adray.data.config import DataConfig
from adray.data.hashing import hash_strings
from adray.data.ingest import ingest
from adray.errors import DataError
from adray.ranking.catalogue import build_catalogue

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]

HEADLINES = [["Why cats purr", "Cats purr for this reason"], ["A dog's day", "Why cats purr", "Look at this dog"], ["Left out", "Too"]]


@pytest.fixture
def arms(tmp_path: Path) -> Path:
    rows = [(f"t{test}", headline, week) for test, week in enumerate((201301, 201410, 201330)) for headline in HEADLINES[test]]
    table = pa.table(
        {
            "clickability_test_id": [test for test, _, _ in rows],
            "headline": [headline for _, headline, _ in rows],
            **{name: [None] * len(rows) for name in ("lede", "excerpt", "eyecatcher_id")},
            "impressions": [1000] * len(rows),
            "clicks": [10] * len(rows),
            "test_week": [week for _, _, week in rows],
        }
    )
    for name in ("lede", "excerpt", "eyecatcher_id"):
        table = table.set_column(table.column_names.index(name), name, pa.nulls(len(rows), pa.string()))
    pq.write_table(table, tmp_path / "arms.parquet")
    return tmp_path / "arms.parquet"


def job(arms: Path, **changes: object) -> kinds.Job:
    values = {
        "kind": "embedding",
        "name": "e",
        "runs_dir": str(arms.parent / "runs"),
        "data": {"creatives": str(arms), "adapter": "upworthy"},
        "encoder": {"kind": "dual_tower", "modalities": "copy"},
    }
    return kinds.make_job({**values, **changes}, "e.yaml")


def test_vectors_are_of_the_creatives_that_the_ranker_sees(arms: Path) -> None:
    run, report = kinds.perform(job(arms), "embed")
    # The third test lies in weeks that the archive's authors doubt.
    assert report["metrics"]["representation/embed/rows"] == 5
    tables = ingest(DataConfig(path=str(arms), adapter="upworthy"), arms.parent / "tables")
    assert tables.creatives is not None
    catalogue = build_catalogue(tables.creatives, arms.parent / "catalogue", report["tables"][0])
    table = pyarrow.dataset.dataset(tables.creatives).to_table(columns=["creative_id", "copy"])
    vectors = catalogue.content[catalogue.lookup(hash_strings(table.column("creative_id")))].astype(np.float32)
    assert vectors.shape == (5, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=2e-3)
    cosine = vectors @ vectors.T
    place = {text: i for i, text in enumerate(table.column("copy").to_pylist())}
    # What means the same is nearer than what only stands in the same test.
    assert cosine[place["Why cats purr"], place["Cats purr for this reason"]] > cosine[place["Why cats purr"], place["A dog's day"]] + 0.2
    again = kinds.perform(job(arms, resume=True), "embed")[1]
    assert again["metrics"]["representation/embed/rows_new"] == 0
    # The gate reads the adapted table too (5 rows), leaves out the headline that stands twice, and finds the rest too few.
    with pytest.raises(DataError, match="4 creatives are left to judge by, of 5 drawn"):
        kinds.perform(job(arms), "evaluate")


def test_a_source_that_the_adapter_cannot_read_is_refused_before_anything_runs(arms: Path) -> None:
    pq.write_table(pq.read_table(arms).drop_columns(["headline"]), arms)
    broken = job(arms)
    with pytest.raises(DataError, match="headline"):
        raise_first(kinds.all_checks(broken, "embed"))
