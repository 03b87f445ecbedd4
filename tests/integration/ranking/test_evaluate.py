"""`evaluate` of a trained ranker on a table from elsewhere."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.config import validate
from adray.ranking import verbs
from adray.ranking.run_config import RankerRunConfig
from adray.run import open_run
from tests.helpers.ranking_world import MODEL, impression_rows, write_creatives

pytestmark = pytest.mark.usefixtures("ray_cluster")


def _config(tmp_path, world, **data):
    values = {
        "kind": "ranker",
        "name": "small",
        "runs_dir": str(tmp_path / "runs"),
        "data": {"path": str(world), "holdout": 0.2, "quarantine_limit": 0.1, **data},
        "model": MODEL,
        "training": {"max_steps": 4, "batch_size": 32},
    }
    return validate(RankerRunConfig, values, "test")


def _write_world(folder, rows, seed, extra=()):
    """A world's creatives and impressions; `extra` are further creatives of SKU s0, all of them candidates."""
    folder.mkdir()
    random = np.random.default_rng(0)
    owned = write_creatives(folder / "creatives.parquet", random)
    things = pq.read_table(folder / "creatives.parquet")
    more = [{"creative_id": one, "sku_id": "s0", "copy": "new warm", "elements": [("colour", "red")]} for one in extra]
    pq.write_table(pa.concat_tables([things, pa.Table.from_pylist(more, things.schema)]), folder / "creatives.parquet")
    owned[0] += extra
    table = impression_rows(owned, rows, np.random.default_rng(seed))
    pq.write_table(table, folder / "impressions.parquet")
    return table


def test_creatives_that_the_artifact_does_not_know_are_counted_and_the_rest_is_evaluated(tmp_path, caplog):
    _write_world(tmp_path / "log", 200, seed=1)
    config = _config(tmp_path, tmp_path / "log")
    verbs.train(config, open_run(config, owns_folder=True))

    # Two creatives are new since; six decisions name one that is in no table at all.
    table = _write_world(tmp_path / "later", 120, seed=2, extra=["new-0", "new-1"])
    rows = table.to_pylist()
    for row in rows[:6]:
        row["candidates"].append({"creative_id": "lost", "propensity": None})
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "later" / "impressions.parquet")
    later = _config(tmp_path, tmp_path / "later")
    run = open_run(later, owns_folder=False)
    with caplog.at_level("INFO", logger="adray"):
        verbs.evaluate(later, run)
    assert run.metrics["data/creatives_unknown"] == 2
    assert run.metrics["data/quarantined/impressions"] == 6
    assert run.metrics["data/rows/evaluated"] == 114
    assert 0 < run.metrics["ranker/click_auc"] < 1
    (line,) = [r.getMessage() for r in caplog.records if r.name == "adray.ranking.verbs"]
    total = pq.read_metadata(tmp_path / "later" / "creatives.parquet").num_rows
    assert line in {f"2 of {total} creatives are unknown to the artifact, for example 'new-{i}'" for i in range(2)}
