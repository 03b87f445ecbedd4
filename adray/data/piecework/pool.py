"""A pool of Ray Data actors for piecework. Items go in and counts come out; pictures and vectors never pass through Ray."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayTaskError

from adray.data.piecework.items import Item
from adray.data.piecework.parts import ItemResult
from adray.data.ray_tasks import root_cause
from adray.errors import ResourceError
from adray.ray_session import use_ray

Work = Callable[[Item], ItemResult]


@dataclass(frozen=True)
class PoolSize:
    """How many actors, and what each reserves.

    Attributes:
        workers: Actors.
        cpus_per_worker: CPUs of each.
        gpus: One GPU for each.
    """

    workers: int
    cpus_per_worker: float = 1.0
    gpus: bool = False


class _PoolWorker:
    """What an actor runs: the work behind the call that Ray Data makes."""

    def __init__(self, start: Callable[[Any], Work], shared: Any) -> None:
        argument, self._items = ray.get(shared)
        self._work = start(argument)

    def __call__(self, batch: pa.Table) -> pa.Table:
        results = [asdict(self._work(self._items[index])) for index in batch.column("id").to_pylist()]
        return pa.table({"result": [json.dumps(result) for result in results]})


def work_in_pool(start: Callable[[Any], Work], argument: Any, items: Sequence[Item], size: PoolSize) -> Iterator[ItemResult]:
    """Do items by a fixed pool of actors; one that dies is replaced and its item done again.

    A worker reads its own items, so that what is in flight is one batch per worker, whatever the size of the table.

    Args:
        start: Called once in each actor with `argument`; what it returns does one item.
        argument: Sent once, through Ray's object store.
        items: What is to be done.
        size: The pool.

    Yields:
        Results, in the order in which they are finished.

    Raises:
        ResourceError: If the cluster can never place the workers.
        AdrayError: What a worker raised.
    """
    use_ray()
    _check_fits(size)
    shared = [ray.put(argument), ray.put(list(items))]
    blocks = (
        ray.data.range(len(items), override_num_blocks=len(items))
        .map_batches(
            _PoolWorker,
            fn_constructor_args=(start, shared),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(size.workers, len(items))),
            num_cpus=size.cpus_per_worker,
            num_gpus=1 if size.gpus else 0,
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


def _check_fits(size: PoolSize) -> None:
    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    # The source of Ray Data's numbers takes one CPU besides.
    needed = size.workers * size.cpus_per_worker + 1
    if needed > cpus:
        problem = f"{size.workers} workers x {size.cpus_per_worker:g} CPUs + 1 = {needed:g} of {cpus:g} CPUs"
        raise ResourceError(problem, "lower job.workers")
    if size.gpus and size.workers > gpus:
        raise ResourceError(f"{size.workers} workers need {size.workers} GPUs, the cluster has {gpus:g}", "lower job.workers")
