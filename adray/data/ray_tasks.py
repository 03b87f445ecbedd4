"""Running a list of work items as ordered Ray Data tasks whose results stream back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext
from ray.exceptions import RayTaskError

from adray.errors import AdrayError
from adray.ray_session import use_ray


def stream_tasks(
    items: Sequence[dict[str, Any]],
    work: Callable[[dict[str, Any]], Iterable[pa.Table]],
    *,
    num_cpus: float = 1.0,
    labels: Mapping[str, str] | None = None,
) -> Iterator[pa.Table]:
    """Call `work` on every item in a Ray Data task of its own and yield the results in the items' order.

    Tables are yielded as blocks: their boundaries within one item may differ from those that `work` gave. Only a few
    blocks exist at a time; Ray Data holds tasks back until their output is consumed. Closing the iterator ends them.

    Args:
        items: Plain dicts of numbers and strings.
        work: Sent to the workers with all that it refers to.
        num_cpus: Logical CPUs of each task.
        labels: Node labels that the tasks need.

    Yields:
        Non-empty tables.

    Raises:
        AdrayError: The one that `work` raised.
    """
    if not items:
        return
    use_ray()
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    with DataContext.current(context):
        numbers = ray.data.range(len(items), override_num_blocks=len(items))
        shared = ray.put(list(items))

        def run(batch: pa.Table) -> Iterator[pa.Table]:
            for index in batch.column("id").to_pylist():
                yield from work(ray.get(shared)[index])

        blocks = numbers.map_batches(
            run,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=num_cpus,
            label_selector=dict(labels) if labels else None,
        ).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    iterator = iter(blocks)
    try:
        for block in iterator:
            if isinstance(block, pa.Table) and block.num_rows:
                yield block
    except RayTaskError as error:
        raise root_cause(error) from error
    finally:
        # A reference kept to the iterator would keep its tasks running.
        del iterator, blocks


def root_cause(error: BaseException) -> BaseException:
    """The user's own error inside Ray's wrapping, or the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        inner = getattr(seen, "cause", None)
        if isinstance(seen, AdrayError) and inner is None:
            return seen
        seen = inner or seen.__cause__
    return error
