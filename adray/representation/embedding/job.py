"""The driver: cuts the source, skips what is done, hands the rest to workers, counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from adray.artifact import load_artifact
from adray.data.piecework.drive import Progress, do_items, run_items
from adray.data.piecework.items import make_items
from adray.data.piecework.parts import Parts
from adray.data.schema import CREATIVES
from adray.data.sources import Source, open_source
from adray.errors import DataError, ResourceError
from adray.files import write_json
from adray.representation.embedding.config import EmbeddingRunConfig
from adray.representation.embedding.provenance import Provenance, provenance_of
from adray.representation.embedding.worker import STAGES, EmbedWorker, WorkerJob, start_worker
from adray.representation.encoders.base import Encoder
from adray.representation.encoders.factory import KIND, build_encoder, load_encoder, save_encoder

EMBEDDINGS, PROVENANCE_FILE, ENCODER = "embeddings", "provenance.json", "encoder"


@dataclass(frozen=True)
class Embedded:
    """What a job left behind.

    Attributes:
        table: Folder of the `embeddings` table.
        quarantine: Folder of the `quarantine` table.
        provenance: Of every vector.
        kept: Vectors in the table.
        lost: Creatives quarantined.
        new: Creatives that this job worked on; the others were done before.
        seconds: Wall time of this job's work.
        stage_seconds: Time spent in each stage, summed over workers.
    """

    table: Path
    quarantine: Path
    provenance: Provenance
    kept: int
    lost: int
    new: int
    seconds: float
    stage_seconds: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """Counts and rows per second: of the whole job, and of each stage in one worker."""
        found = {"rows": float(self.kept), "quarantined": float(self.lost), "rows_new": float(self.new), "dim": float(self.provenance.dim)}
        if self.new:
            found["rows_per_s"] = self.new / max(self.seconds, 1e-9)
            found |= {f"{stage}_rows_per_s": self.new / max(self.stage_seconds[stage], 1e-9) for stage in STAGES}
        return {f"representation/embed/{name}": value for name, value in found.items()}


OnProgress = Callable[[int, dict[str, float]], None]
"""Told rows done so far and figures about them."""


def prepare_encoder(config: EmbeddingRunConfig, run_folder: Path) -> tuple[Path, str, Encoder]:
    """The encoder's artifact (made in the run's folder when the config describes the encoder), its hash, and the encoder.

    Raises:
        ArtifactError: If the artifact is missing, damaged or of another kind.
    """
    if config.artifact is not None:
        artifact = load_artifact(config.artifact, KIND)
        return artifact.folder, artifact.content_hash, load_encoder(artifact)
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.encoder)
    artifact = save_encoder(encoder, config.encoder, run_folder / ENCODER)
    return artifact.folder, artifact.content_hash, encoder


def provenance_for(config: EmbeddingRunConfig, encoder: Encoder, encoder_hash: str) -> Provenance:
    """The provenance of the vectors that a config asks for.

    Raises:
        DataError: If `dim` is larger than the encoder's vectors.
    """
    dim = encoder.dim if config.dim is None else config.dim
    if dim > encoder.dim:
        raise DataError(f"field 'dim' is {dim}, the encoder's vectors have {encoder.dim} values", f"choose 1..{encoder.dim}")
    steps = {"at_least": config.job.at_least, "precision": config.job.precision}
    return provenance_of(encoder, encoder_hash, dim, steps)


def embed_table(
    config: EmbeddingRunConfig, creatives: str, folder: Path, encoder: tuple[Path, str, Encoder], on_progress: OnProgress | None = None
) -> Embedded:
    """Embed a table of creatives into `<folder>/embeddings`, going on where an earlier job of the same provenance stopped.

    Args:
        config: Encoder, sizes and workers; its `data` is not read.
        creatives: The table.
        folder: Where vectors, quarantine and the record of what is done go.
        encoder: From `prepare_encoder`.
        on_progress: Told of every finished item.

    Raises:
        DataError: If the folder holds vectors of another provenance, the source is unreadable or has an id twice, or more
            rows are lost than `data.quarantine_limit` allows.
    """
    artifact, encoder_hash, model = encoder
    provenance = provenance_for(config, model, encoder_hash)
    _claim(folder, provenance)
    source = open_source(creatives)
    job = _worker_job(config, source, artifact, provenance, folder)

    def told(at: Progress) -> None:
        if on_progress is not None:
            on_progress(at.rows, {"representation/embed/rows_per_s": at.new / max(at.seconds, 1e-9)})

    done = do_items(
        make_items(source, config.job.chunk_rows, config.job.batch_rows),
        job.parts,
        lambda items: run_items(config.job, items, lambda: EmbedWorker(job, model).embed, start_worker, job),
        table=CREATIVES.name,
        key="creative_id",
        limit=config.data.quarantine_limit,
        stages=STAGES,
        on_progress=told,
    )
    return Embedded(job.parts.output, job.parts.quarantine, provenance, done.kept, done.lost, done.new, done.seconds, done.stage_seconds)


def _worker_job(config: EmbeddingRunConfig, source: Source, artifact: Path, provenance: Provenance, folder: Path) -> WorkerJob:
    how = config.job
    if how.gpus and how.workers == 0 and not torch.cuda.is_available():
        raise ResourceError("field 'job.gpus' is true and this process has no GPU", "set job.gpus=false, or job.workers on a cluster")
    return WorkerJob(
        source=source,
        encoder=str(artifact),
        provenance=provenance,
        parts=Parts.make(folder, EMBEDDINGS),
        batch_rows=how.batch_rows,
        at_least=how.at_least,
        prefetch=how.prefetch,
        precision=how.precision,
        device="cuda" if how.gpus else "cpu",
        threads=how.torch_threads(),
    )


def _claim(folder: Path, provenance: Provenance) -> None:
    """Mark a folder as holding one provenance; refuse it when it holds another."""
    path = folder / PROVENANCE_FILE
    if path.is_file():
        known = Provenance(**json.loads(path.read_text(encoding="utf-8")))
        if known != provenance:
            problem = f"{folder} holds vectors of {known.difference(provenance)} is asked for now"
            raise DataError(problem.replace(" and ", ", and ", 1), "start a run of another name, or --set replace=true")
        return
    write_json(path, provenance.as_dict())
