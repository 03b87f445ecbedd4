"""A pool of Ray Data actors that extract. Work items go in and counts come out; pictures never pass through Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayTaskError

from adray.data.ray_tasks import root_cause
from adray.errors import ResourceError
from adray.ray_session import use_ray
from adray.representation.attributes.config import JobConfig
from adray.representation.attributes.products import Titles
from adray.representation.attributes.worker import ExtractWorker, ItemResult, WorkerJob
from adray.representation.embedding.items import Item


class _PoolWorker:
    """What an actor runs: `ExtractWorker` behind the call that Ray Data makes."""

    def __init__(self, job: WorkerJob, shared: Any) -> None:
        titles, items = ray.get(shared)
        self._worker = ExtractWorker(job, titles)
        self._items: Sequence[Item] = items

    def __call__(self, batch: pa.Table) -> pa.Table:
        results = [asdict(self._worker.run(self._items[index])) for index in batch.column("id").to_pylist()]
        return pa.table({"result": [json.dumps(result) for result in results]})


def extract_in_pool(job: WorkerJob, titles: Titles, items: Sequence[Item], how: JobConfig) -> Iterator[ItemResult]:
    """Extract work items by a fixed pool of actors; one that dies is replaced and its work item done again.

    A worker reads its own work items, so that what is in flight is one batch per worker, whatever the size of the table.

    Args:
        job: What to do.
        titles: Titles by SKU, shared through Ray's object store.
        items: What to do it to.
        how: Number of workers and what each reserves.

    Yields:
        Results, in the order in which they are finished.

    Raises:
        ResourceError: If the cluster can never place the workers.
        AdrayError: What a worker raised.
    """
    use_ray()
    _check_fits(how)
    shared = [ray.put(titles), ray.put(list(items))]
    blocks = (
        ray.data.range(len(items), override_num_blocks=len(items))
        .map_batches(
            _PoolWorker,
            fn_constructor_args=(job, shared),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(how.workers, len(items))),
            num_cpus=how.cpus_per_worker,
            num_gpus=1 if how.gpus else 0,
        )
        .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    )
    iterator = iter(blocks)
    try:
        for block in iterator:
            for text in block.column("result").to_pylist():
                yield ItemResult(**json.loads(text))
    except RayTaskError as error:
        raise root_cause(error) from error
    finally:
        # A reference kept to the iterator would keep its actors running.
        del iterator, blocks


def _check_fits(how: JobConfig) -> None:
    have = ray.cluster_resources()
    # The source of Ray Data's numbers takes one CPU besides.
    needed = how.workers * how.cpus_per_worker + 1
    if needed > have.get("CPU", 0.0):
        problem = f"{how.workers} workers x {how.cpus_per_worker:g} CPUs + 1 = {needed:g} of {have.get('CPU', 0.0):g} CPUs"
        raise ResourceError(problem, "lower job.workers")
    if how.gpus and how.workers > have.get("GPU", 0.0):
        raise ResourceError(f"{how.workers} workers need {how.workers} GPUs, the cluster has {have.get('GPU', 0.0):g}", "lower job.workers")
