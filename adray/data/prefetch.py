"""Making the next items in a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """The producer's last word: why it ended."""

    error: BaseException | None


def prefetched(items: Iterator[T], depth: int) -> Iterator[T]:
    """Iterate `items` with up to `depth` made ahead by a thread.

    An exception in `items` is re-raised here, in its place. Closing the iterator early (or dropping it) stops the
    thread, closes `items` in that thread, and waits for both.

    Args:
        items: A generator; used only in the thread.
        depth: Items held ready; 0 makes each when it is asked for, without a thread.

    Yields:
        The items, in order.
    """
    if depth == 0:
        yield from items
        return
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    stop = threading.Event()

    def produce() -> None:
        end = _End(None)
        try:
            with closing(items):  # type: ignore[type-var]
                for item in items:
                    ready.put(item)
                    if stop.is_set():
                        return
        except BaseException as error:
            end = _End(error)
        ready.put(end)

    thread = threading.Thread(target=produce, name="adray-prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        # A producer blocked on a full queue wakes when there is room, then sees `stop`.
        while thread.is_alive():
            try:
                ready.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()
