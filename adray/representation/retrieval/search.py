"""Opening and searching an index: one shard or many, in this process or in Ray actors, merged exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import faiss
import numpy as np
from faiss import fvec_norm_L2sqr, swig_ptr

from adray.artifact import Artifact, load_artifact
from adray.errors import ArtifactError, DataError
from adray.representation.embedding.provenance import Provenance
from adray.representation.retrieval.publish import read_published

KIND = "index"
NONE = -1
"""The id of a place that no vector took."""

_SQUARE = 0.02
"""How far a squared length of a normalised vector may be from 1."""


class Found(NamedTuple):
    """Neighbours of q queries.

    Attributes:
        ids: int64 `[q, k]`, hashes of creative ids (`adray.data.hashing`), best first; `NONE` where there are fewer than k.
        scores: float32 `[q, k]`: inner products (larger is nearer), or squared L2 distances (smaller is nearer).
    """

    ids: np.ndarray
    scores: np.ndarray


def merge(parts: Sequence[Found], k: int, metric: str) -> Found:
    """The k best of several shards' results, by score, then by id: exact when each shard is.

    Args:
        parts: Results of the same queries.
        k: Neighbours wanted.
        metric: `inner_product` or `l2`.
    """
    ids = np.concatenate([part.ids for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    worse = -scores if metric == "inner_product" else scores
    worse = np.where(ids == NONE, np.inf, worse)
    order = np.lexsort((ids, worse), axis=1)[:, :k]
    return Found(np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1))


class Shard:
    """One Faiss index with its ids.

    Args:
        folder: The index's artifact, whose hashes have been checked: Faiss trusts what it reads.
        number: Which shard.
        settings: The artifact's config.
    """

    def __init__(self, folder: str | Path, number: int, settings: dict[str, Any]) -> None:
        folder = Path(folder)
        self._index = faiss.read_index(str(folder / f"shard-{number:05d}.faiss"))
        if self._index.d != settings["provenance"]["dim"]:
            problem = f"shard {number} of {folder} holds vectors of {self._index.d} values, its artifact says otherwise"
            raise ArtifactError(problem, "build the index again")
        # Faiss's own function: its Python wrapper checks again what `OpenIndex` checks.
        self._search = self._index.search_c  # type: ignore[attr-defined]
        self.ids = np.load(folder / f"ids-{number:05d}.npy", mmap_mode="r", allow_pickle=False)
        self._names = np.load(folder / f"names-{number:05d}.npy", mmap_mode="r", allow_pickle=False)
        self._ends = np.load(folder / f"name-ends-{number:05d}.npy", mmap_mode="r", allow_pickle=False)
        # A plain array: ids are looked up at every search, and a memory map checks each access.
        self._lookup = np.append(np.asarray(self.ids), NONE)
        self._metric: str = settings["metric"]
        self._set: dict[str, int] = {}
        self._tunable = _tunable(self._index)
        self.tune("k_factor_rf", settings["refine"])
        self.tune("nprobe", settings["nprobe"])
        self.tune("efSearch", settings["ef_search"])

    def tune(self, name: str, value: int | None) -> None:
        """Set a search parameter where the index has it."""
        if value is not None and name in self._tunable and self._set.get(name) != value:
            faiss.ParameterSpace().set_index_parameter(self._index, name, value)
            self._set[name] = value

    def search(self, vectors: np.ndarray, k: int, nprobe: int | None = None, ef_search: int | None = None) -> Found:
        """See `OpenIndex.search`; the vectors must be float32, contiguous, and as wide as the index: Faiss reads them unasked."""
        if nprobe is not None or ef_search is not None:
            self.tune("nprobe", nprobe)
            self.tune("efSearch", ef_search)
        count = len(vectors)
        scores, rows = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
        self._search(count, swig_ptr(vectors), k, swig_ptr(scores), swig_ptr(rows))
        # Row -1, where nothing was found, is the appended NONE.
        return Found(self._lookup[rows], scores)

    def search_one(self, vector: np.ndarray, k: int, unit: bool) -> Found | None:
        """One query, float32 `[1, dim]` and contiguous; None when its length has to be 1 (`unit`) and is not.

        A query on a fast index takes some 50 us and leaves nothing of Python in the processor's caches, so that each function or
        object touched besides costs up to two more: here are as few of them as can be.
        """
        pointer = swig_ptr(vector)
        # NaN is not within any distance of 1.
        if unit and not abs(fvec_norm_L2sqr(pointer, vector.size) - 1) <= _SQUARE:
            return None
        scores, rows = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        self._search(1, pointer, k, swig_ptr(scores), swig_ptr(rows))
        (row,) = scores.tolist()
        found = Found(self._lookup[rows], scores)
        return found if len(set(row)) == k else merge([found], k, self._metric)

    def names(self, ids: np.ndarray) -> dict[int, str]:
        """Creative ids of those hashes that this shard holds."""
        places = np.searchsorted(self.ids, ids)
        places = np.minimum(places, len(self.ids) - 1)
        held = np.asarray(self.ids)[places] == ids
        return {
            int(i): bytes(self._names[self._ends[p] : self._ends[p + 1]]).decode() for i, p in zip(ids[held], places[held], strict=True)
        }


def _tunable(index: Any) -> set[str]:
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexRefine):
        return {"k_factor_rf"} | _tunable(inner.base_index)
    if isinstance(inner, faiss.IndexPreTransform):
        return _tunable(inner.index)
    names = {"nprobe"} if isinstance(inner, faiss.IndexIVF) else set()
    return names | ({"efSearch"} if isinstance(inner, faiss.IndexHNSW) else set())


def _all_unit(vectors: np.ndarray) -> bool:
    """Whether every row has length 1, about; NaN has not."""
    return int(np.count_nonzero(np.abs(np.vecdot(vectors, vectors) - 1) <= _SQUARE)) == len(vectors)


def _has_ties(scores: np.ndarray) -> bool:
    """Whether two neighbours of a query score alike; rows are in order."""
    return bool(np.count_nonzero(scores[:, 1:] == scores[:, :-1]))


class OpenIndex:
    """An index ready to be searched. Close it, or use it in a `with` block, when it has actors.

    Args:
        artifact: The verified artifact.
        actors: One Ray actor per shard in place of shards in this process.
    """

    def __init__(self, artifact: Artifact, actors: bool = False) -> None:
        settings = dict(artifact.config)
        self.folder = artifact.folder
        self.metric: str = settings["metric"]
        self.rows: int = settings["rows"]
        self.provenance = Provenance(**settings["provenance"])
        self._width, self._normalised = (self.provenance.dim,), self.provenance.normalised
        numbers = range(len(settings["shards"]))
        self._actors: list[Any] = []
        self._shards: list[Shard] = []
        if actors:
            from adray.representation.retrieval.actors import start_actors

            self._actors = start_actors(artifact.folder, numbers, settings)
        else:
            self._shards = [Shard(artifact.folder, number, settings) for number in numbers]
        self._only = self._shards[0] if len(self._shards) == 1 else None
        self._one = (1, self.provenance.dim)

    def search(self, vectors: np.ndarray, k: int, nprobe: int | None = None, ef_search: int | None = None) -> Found:
        """The k nearest neighbours of each query.

        Args:
            vectors: float32 `[q, dim]`, made with the index's provenance; of length 1 when its vectors are.
            k: Neighbours.
            nprobe: IVF lists to visit, from now on.
            ef_search: HNSW candidates to keep, from now on.

        Raises:
            DataError: If the queries have another width, or are not normalised and the index is, or k is not positive.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        if self._only is not None and vectors.shape == self._one and k > 0 and nprobe is None and ef_search is None:
            found = self._only.search_one(vectors, k, self._normalised)
            if found is not None:
                return found
        if vectors.shape[1:] != self._width or k < 1 or (self._normalised and not _all_unit(vectors)):
            self._refuse(vectors, k)
        if self._actors:
            from adray.representation.retrieval.actors import ask

            parts = ask(self._actors, vectors, k, nprobe, ef_search)
        else:
            parts = [shard.search(vectors, k, nprobe, ef_search) for shard in self._shards]
        if len(parts) == 1 and not _has_ties(parts[0].scores):
            return parts[0]
        return merge(parts, k, self.metric)

    def _refuse(self, vectors: np.ndarray, k: int) -> NoReturn:
        if vectors.shape[1:] != self._width:
            raise DataError(f"queries have shape {vectors.shape}, the index holds vectors of {self._width[0]} values", "embed them alike")
        if k < 1:
            raise DataError(f"{k} neighbours are wanted", "ask for one at least")
        squares = np.vecdot(vectors, vectors)
        worst = float(np.sqrt(squares[np.abs(squares - 1).argmax()]))
        raise DataError(f"a query has length {worst:.3f}, the index holds vectors of length 1", "normalise the queries")

    def names(self, ids: np.ndarray) -> dict[int, str]:
        """Creative ids of hashes that `search` gave; `NONE` and unknown ones are left out."""
        wanted = np.unique(ids)
        if self._actors:
            from adray.representation.retrieval.actors import names

            return names(self._actors, wanted)
        return {key: name for shard in self._shards for key, name in shard.names(wanted).items()}

    def close(self) -> None:
        """End the actors."""
        if self._actors:
            from adray.representation.retrieval.actors import stop

            stop(self._actors)
            self._actors = []

    def __enter__(self) -> OpenIndex:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_index(folder: str | Path, *, expect: Provenance | None = None, actors: bool = False) -> OpenIndex:
    """Open a published index. The link is followed once, so that a version published meanwhile is not mixed in.

    Args:
        folder: Where it was published.
        expect: The provenance of the queries to come.
        actors: Hold each shard in a Ray actor; the folder must then be readable on every node.

    Raises:
        ArtifactError: If it is missing, damaged (hashes are checked before Faiss reads a byte), or holds vectors of another
            provenance than `expect`.
    """

    def opened(version: Path) -> OpenIndex:
        artifact = load_artifact(version, KIND)
        held = Provenance(**artifact.config["provenance"])
        if expect is not None and expect != held:
            problem = f"index {folder} and the queries differ: {held.difference(expect)}"
            raise ArtifactError(problem, "embed the queries with the index's encoder, or build the index again")
        return OpenIndex(artifact, actors)

    return read_published(Path(folder), opened)
