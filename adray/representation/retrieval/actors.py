"""Shards in Ray actors: built there, searched there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from adray.data.ray_tasks import root_cause
from adray.ray_session import use_ray
from adray.representation.embedding.provenance import Provenance
from adray.representation.retrieval.build import Range, build_shard
from adray.representation.retrieval.search import Found, Shard


class _ShardActor:
    """Holds one shard."""

    def __init__(self, folder: str, number: int, settings: dict[str, Any]) -> None:
        self._shard = Shard(folder, number, settings)

    def search(self, vectors: np.ndarray, k: int, nprobe: int | None, ef_search: int | None) -> tuple[np.ndarray, np.ndarray]:
        found = self._shard.search(vectors, k, nprobe, ef_search)
        return found.ids, found.scores

    def names(self, ids: np.ndarray) -> dict[int, str]:
        return self._shard.names(ids)


def start_actors(folder: Path, numbers: Iterable[int], settings: dict[str, Any]) -> list[Any]:
    """One actor per shard."""
    use_ray()
    actor = ray.remote(_ShardActor)
    return [actor.remote(str(folder), number, settings) for number in numbers]


def ask(actors: Sequence[Any], vectors: np.ndarray, k: int, nprobe: int | None, ef_search: int | None) -> list[Found]:
    """Every shard's neighbours of the queries, which are sent through the object store once."""
    shared = ray.put(vectors)
    return [Found(*found) for found in ray.get([actor.search.remote(shared, k, nprobe, ef_search) for actor in actors])]


def names(actors: Sequence[Any], ids: np.ndarray) -> dict[int, str]:
    """Names that any shard knows."""
    found: dict[int, str] = {}
    for part in ray.get([actor.names.remote(ids) for actor in actors]):
        found |= part
    return found


def stop(actors: Sequence[Any]) -> None:
    """End the actors."""
    for actor in actors:
        ray.kill(actor)


def build_shards(
    trained: bytes, pieces: Sequence[Range], provenance: Provenance, folder: Path, workers: int, gpus: bool
) -> list[dict[str, int]]:
    """Build shards in Ray tasks, at most `workers` at a time; the trained index is sent through the object store once.

    Raises:
        AdrayError: What a task raised.
    """
    use_ray()
    task = ray.remote(num_gpus=1 if gpus else 0, max_retries=3)(build_shard)
    shared = ray.put(trained)
    running: dict[Any, int] = {}
    done: dict[int, dict[str, int]] = {}
    waiting = list(enumerate(pieces))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, piece = waiting.pop(0)
                running[task.remote(shared, piece, provenance, folder, number, gpus)] = number
            ready, _ = ray.wait(list(running), num_returns=1)
            done[running.pop(ready[0])] = ray.get(ready[0])
    except RayTaskError as error:
        raise root_cause(error) from error
    finally:
        for left in running:
            ray.cancel(left, force=True)
    return [done[number] for number in sorted(done)]
