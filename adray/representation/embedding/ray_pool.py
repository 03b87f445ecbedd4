"""A pool of Ray Data actors, each with an encoder. Items go in and counts come out; pictures and vectors never pass through Ray."""

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
from adray.representation.embedding.config import JobConfig
from adray.representation.embedding.items import Item
from adray.representation.embedding.worker import EmbedWorker, ItemResult, WorkerJob


class _PoolWorker:
    """What an actor runs: `EmbedWorker` behind the call that Ray Data makes."""

    def __init__(self, job: WorkerJob, items: Any) -> None:
        self._worker = EmbedWorker(job)
        self._items: Sequence[Item] = ray.get(items[0])

    def __call__(self, batch: pa.Table) -> pa.Table:
        results = [asdict(self._worker.embed(self._items[index])) for index in batch.column("id").to_pylist()]
        return pa.table({"result": [json.dumps(result) for result in results]})


def embed_in_pool(job: WorkerJob, items: Sequence[Item], how: JobConfig) -> Iterator[ItemResult]:
    """Embed items by a fixed pool of actors; one that dies is replaced and its item done again.

    A worker reads its own items, so that what is in flight is one batch per worker, whatever the size of the table.

    Args:
        job: What to do.
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
    shared = [ray.put(list(items))]
    blocks = (
        ray.data.range(len(items), override_num_blocks=len(items))
        .map_batches(
            _PoolWorker,
            fn_constructor_args=(job, shared),
            batch_size=1,
            batch_format="pyarrow",
            concurrency=min(how.workers, len(items)),
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
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    # The source of Ray Data's numbers takes one CPU besides.
    needed = how.workers * how.cpus_per_worker + 1
    if needed > cpus:
        raise ResourceError(f"{how.workers} workers x {how.cpus_per_worker:g} CPUs + 1 = {needed:g} of {cpus:g} CPUs", "lower job.workers")
    if how.gpus and how.workers > gpus:
        raise ResourceError(f"{how.workers} workers need {how.workers} GPUs, the cluster has {gpus:g}", "lower job.workers")
