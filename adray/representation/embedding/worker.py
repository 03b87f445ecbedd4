"""One worker: reads an item, runs the encoder over it, writes its vectors and its losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from adray.data.bad_rows import BadRowsError
from adray.data.piecework.items import Item, read_item
from adray.data.piecework.parts import ItemResult, Parts
from adray.data.prefetch import prefetched
from adray.data.schema import CREATIVES
from adray.data.sources import Source
from adray.representation.creatives import Creatives
from adray.representation.embedding.provenance import Provenance, embeddings_table
from adray.representation.encoders.base import Encoder, EncoderInputs, truncated
from adray.representation.encoders.factory import load_encoder
from adray.representation.reading import COLUMNS, creatives_from_arrow

STAGES = ("read", "decode", "prepare", "forward", "write")
_ROW_GROUP_ROWS = 8192
_SHORTEST = 0.5
"""A vector is of length 1 or, when the encoder saw nothing that it reads, 0."""


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs to know.

    Attributes:
        source: The creatives.
        encoder: Folder of the encoder's artifact.
        provenance: Of the vectors to be made.
        parts: Where vectors and losses go.
        batch_rows: Creatives per forward pass.
        at_least: See `creatives_from_arrow`.
        prefetch: Batches made ahead by a thread.
        precision: `fp32` or `bf16`.
        device: Torch device.
        threads: Torch threads; 0 leaves torch's own choice.
    """

    source: Source
    encoder: str
    provenance: Provenance
    parts: Parts
    batch_rows: int
    at_least: int | None
    prefetch: int
    precision: str
    device: str
    threads: int


class _Clock:
    """Adds the time since the last call to a stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def lap(self, stage: str | None = None) -> None:
        now = time.perf_counter()
        if stage is not None:
            self._seconds[stage] += now - self._last
        self._last = now


class EmbedWorker:
    """Holds the encoder and embeds items with it.

    Args:
        job: What to do.
        encoder: The encoder when the caller has it already; else it is loaded.

    Raises:
        ArtifactError: If the encoder cannot be loaded.
    """

    def __init__(self, job: WorkerJob, encoder: Encoder | None = None) -> None:
        if job.threads:
            torch.set_num_threads(job.threads)
        self._job = job
        self._encoder = (encoder if encoder is not None else load_encoder(job.encoder)).to(job.device).eval()

    def embed(self, item: Item) -> ItemResult:
        """Embed an item. Its files appear whole or not at all, its entry in `done` last.

        Raises:
            DataError: If its source cannot be read.
        """
        job, result = self._job, ItemResult(item.name, seconds=dict.fromkeys(STAGES, 0.0))
        lost: list[tuple[str, str]] = []
        clock = _Clock(result.seconds)
        with job.parts.writing(item, _schema(job.provenance), _ROW_GROUP_ROWS) as writer:
            for creatives, inputs in prefetched(self._batches(item, lost, result.seconds), job.prefetch):
                clock.lap()
                vectors, kept = self._vectors(creatives, inputs, lost)
                clock.lap("forward")
                ids, skus = ([column[row] for row in kept] for column in (creatives.creative_ids, creatives.sku_ids))
                writer.write(embeddings_table(ids, skus, vectors, job.provenance))
                clock.lap("write")
        result.kept = writer.written
        job.parts.finish(result, item, CREATIVES.name, "embed", lost)
        return result

    def _batches(
        self, item: Item, lost: list[tuple[str, str]], seconds: dict[str, float]
    ) -> Iterator[tuple[Creatives, EncoderInputs | None]]:
        """Decoded and prepared batches; None in place of inputs that could not be prepared together."""
        clock = _Clock(seconds)

        def on_bad(key: str, reason: str) -> None:
            lost.append((key, reason))

        for rows in read_item(self._job.source, item, self._job.batch_rows, CREATIVES, COLUMNS, on_bad):
            clock.lap("read")
            creatives, bad = creatives_from_arrow(rows, at_least=self._job.at_least)
            keys = rows.column("creative_id")
            for row, reason in bad:
                on_bad(keys[row].as_py() or f"item {item.name} row {row}", reason)
            clock.lap("decode")
            if len(creatives):
                inputs = self._prepared(creatives)
                clock.lap("prepare")
                yield creatives, inputs
            clock.lap()

    def _prepared(self, creatives: Creatives) -> EncoderInputs | None:
        try:
            return self._encoder.prepare(creatives)
        except MemoryError:
            raise
        except Exception:  # one row that no encoder author thought of; `_one_by_one` finds it and keeps its reason
            return None

    def _vectors(self, creatives: Creatives, inputs: EncoderInputs | None, lost: list[tuple[str, str]]) -> tuple[np.ndarray, list[int]]:
        """(float32 `[kept, dim]`, their rows)."""
        try:
            if inputs is None:
                inputs = self._encoder.prepare(creatives)
            vectors = self._forward(inputs)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if len(creatives) > 1:
                return self._one_by_one(creatives, lost)
            lost.append((creatives.creative_ids[0], f"encoder: {_reason(error)}"))
            return np.zeros((0, self._job.provenance.dim), np.float32), []
        usable = np.isfinite(vectors).all(axis=1) & (np.linalg.norm(vectors, axis=1) > _SHORTEST)
        for row in np.flatnonzero(~usable).tolist():
            lost.append((creatives.creative_ids[row], "encoder: no vector, it reads neither picture nor copy of this row"))
        kept = np.flatnonzero(usable).tolist()
        return vectors[kept], kept

    def _one_by_one(self, creatives: Creatives, lost: list[tuple[str, str]]) -> tuple[np.ndarray, list[int]]:
        found = [self._vectors(creatives[row : row + 1], None, lost) for row in range(len(creatives))]
        return np.concatenate([vectors for vectors, _ in found]), [row for row, (_, kept) in enumerate(found) if kept]

    def _forward(self, inputs: EncoderInputs) -> np.ndarray:
        device = torch.device(self._job.device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._job.precision == "bf16"):
            vectors = self._encoder(inputs.to(device)).float()
            if self._job.provenance.dim != vectors.shape[1]:
                vectors = truncated(vectors, self._job.provenance.dim)
        return vectors.cpu().numpy()


def _schema(provenance: Provenance) -> pa.Schema:
    return embeddings_table([], [], np.zeros((0, provenance.dim), np.float16), provenance).schema


def _reason(error: Exception) -> str:
    reason = error.rows[0][1] if isinstance(error, BadRowsError) else f"{type(error).__name__}: {error}"
    return " ".join(reason.split())[:300]


def start_worker(job: WorkerJob) -> Callable[[Item], ItemResult]:
    """What a pool's actor calls first."""
    return EmbedWorker(job).embed
