"""What the command line calls for configs of kind `index`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adray.artifact import writing_artifact
from adray.checks import Check
from adray.errors import AdrayError
from adray.files import write_json
from adray.representation.embedding.provenance import Provenance, read_provenance
from adray.representation.retrieval.build import (
    build_shard,
    check_gpu,
    check_ids,
    check_metric,
    describe,
    new_index,
    ranges,
    read_range,
    train,
)
from adray.representation.retrieval.config import IndexRunConfig
from adray.representation.retrieval.exact import ExactSearch
from adray.representation.retrieval.publish import publishing
from adray.representation.retrieval.search import KIND, open_index
from adray.run import Run, run_folder

CONFIG = IndexRunConfig
HEADLINES = ["representation/index/ann_recall", "representation/index/rows", "representation/index/queries_per_s"]
INDEX, INDEX_FILE = "index", "index.json"
_CHECK_K = 10


def index(config: IndexRunConfig, run: Run) -> None:
    """Build the index and publish it.

    Raises:
        DataError: If the table mixes provenances, has a bad vector or an id twice.
        ConfigError: If factory or metric do not fit the vectors.
    """
    run.headlines += HEADLINES
    provenance = read_provenance(config.embeddings)
    check_metric(config.metric, provenance, config.embeddings)
    name = Path(config.publish) if config.publish is not None else run.folder / INDEX
    with run.stage("train"):
        trained = train(config, provenance)
    with publishing(name) as version, run.stage("add"):
        rows = build_index(config, provenance, trained, version)
    run.log({"representation/index/add_rows_per_s": rows / max(run.seconds["add"], 1e-9)})
    run.artifacts.append(str(name))
    if config.check_queries:
        with run.stage("check"):
            run.log(_measure(config, provenance, name))
    opened = describe(config, provenance, [])
    run.add_table(
        "Index", ["setting", "value"], [(key, str(value)) for key, value in opened.items() if key not in ("rows", "bytes", "shards")]
    )


def build_index(config: IndexRunConfig, provenance: Provenance, trained: bytes, folder: Path) -> int:
    """Write the artifact: every shard from the same trained index.

    Returns:
        Vectors added.

    Raises:
        DataError: If an id is there twice.
    """
    pieces = ranges(config.embeddings, config.shards)
    settings: dict[str, object] = {}
    lineage = {"embeddings": {"path": config.embeddings, **provenance.as_dict()}, "run": config.name}
    with writing_artifact(folder, KIND, settings, lineage=lineage) as partial:
        if config.workers:
            from adray.representation.retrieval.actors import build_shards

            sizes = build_shards(trained, pieces, provenance, partial, config.workers, config.gpus)
        else:
            sizes = [build_shard(trained, piece, provenance, partial, number, config.gpus) for number, piece in enumerate(pieces)]
        check_ids([np.load(path, mmap_mode="r") for path in sorted(partial.glob("ids-*.npy"))], config.embeddings)
        settings.update(describe(config, provenance, sizes))
        write_json(partial / INDEX_FILE, settings)
    return sum(size["rows"] for size in sizes)


def checks(config: IndexRunConfig, verb: str) -> Iterable[Check]:
    """Table of one provenance, metric and factory that fit it."""
    try:
        provenance = read_provenance(config.embeddings)
    except AdrayError as error:
        yield Check("embeddings", config.embeddings, error)
        return
    yield Check("embeddings", f"{config.embeddings}: width {provenance.dim}, encoder {provenance.encoder[:12]}")
    for name, check in (
        ("metric", lambda: check_metric(config.metric, provenance, config.embeddings)),
        ("factory", lambda: new_index(config.factory, provenance.dim, config.metric)),
    ):
        try:
            check()
        except AdrayError as error:
            yield Check(name, str(getattr(config, name)), error)
        else:
            yield Check(name, str(getattr(config, name)))
    if config.gpus:
        yield _gpus()
    target = Path(config.publish) if config.publish is not None else run_folder(config) / INDEX
    yield Check("publish", f"{target} {'is moved to the new version' if target.exists() else 'is new'}")


def _gpus() -> Check:
    try:
        check_gpu()
    except AdrayError as error:
        return Check("gpus", "", error)
    return Check("gpus", "Faiss sees one")


def _measure(config: IndexRunConfig, provenance: Provenance, name: Path) -> dict[str, float]:
    """ANN recall@10 against exact search over the same vectors, queries being some of them; and speed."""
    whole = ranges(config.embeddings, 1)[0]
    _, first = next(read_range(whole, provenance))
    queries = first[:: max(1, len(first) // config.check_queries)][: config.check_queries]
    exact = ExactSearch(queries, _CHECK_K, config.metric)
    for ids, vectors in read_range(whole, provenance):
        exact.add(ids, vectors)
    with open_index(name, expect=provenance) as opened:
        opened.search(exact.queries[:1], _CHECK_K)
        start = time.perf_counter()
        found = opened.search(exact.queries, _CHECK_K)
        seconds = time.perf_counter() - start
        rows = opened.rows
    figures = {
        "ann_recall": exact.recall(found.ids),
        "rows": float(rows),
        "queries_per_s": len(exact.queries) / max(seconds, 1e-9),
        "bytes": float(sum(path.stat().st_size for path in name.resolve().glob("*.faiss"))),
    }
    return {f"representation/index/{key}": value for key, value in figures.items()}
