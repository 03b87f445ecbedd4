"""Kind `encoder`: train an encoder with InfoNCE, evaluate it by retrieval, export it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from adray.checks import Check
from adray.errors import AdrayError, ArtifactError, DataError
from adray.files import sha256, write_json
from adray.representation.contrastive.judge import judge
from adray.representation.contrastive.pairs import write_pairs
from adray.representation.contrastive.plots import loss_curve
from adray.representation.contrastive.task import ContrastiveTask, held_out_batches
from adray.representation.encoder_config import EncoderRunConfig
from adray.representation.encoders.factory import build_without_weights, load_encoder
from adray.representation.encoders.footprint import footprint
from adray.representation.encoders.mllm_config import MllmConfig
from adray.representation.encoders.mllm_loading import holds_checkpoint
from adray.run import Run, run_folder
from adray.training.checkpoint import list_checkpoints
from adray.training.checks import checkpoint_check, training_checks
from adray.training.fit import TrainResult
from adray.training.in_run import fit_in_run
from adray.training.loop import CHECKPOINTS, EXPORT

CONFIG = EncoderRunConfig
HEADLINES = [
    "representation/image_to_copy/recall@1",
    "representation/copy_to_image/recall@1",
    "representation/chance@1",
    "representation/picture_gain",
    "train/negatives",
]
"""Metrics that a run's report shows first, as far as it has them."""

_PAIRS = "pairs"
_PAIRS_FILE = "pairs.json"


def train(config: EncoderRunConfig, run: Run) -> None:
    """Write the pairs, train, evaluate on the held-out SKUs, export.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config or resources.
    """
    with run.stage("pairs"):
        _pairs(config, run)
    with run.stage("train"):
        result = fit_in_run(_task(config, run), config, run)
    _report(run, result)


def export(config: EncoderRunConfig, run: Run) -> None:
    """Write the artifact again from the run's last complete checkpoint, without training on."""
    _pairs(config, run)
    with run.stage("export"):
        result = fit_in_run(_task(config, run), config, run, export_only=True)
    _report(run, result)


def evaluate(config: EncoderRunConfig, run: Run) -> None:
    """Judge the run's artifact on the held-out SKUs of `pairs.path`, which may be another table than the one trained on.

    Raises:
        ArtifactError: If the run has no artifact yet.
        DataError: If the table cannot be used.
    """
    encoder = load_encoder(run.folder / EXPORT / "encoder")
    folder = run.folder / "evaluation" / _PAIRS
    with run.stage("pairs"):
        rows = write_pairs(config.pairs, config.seed, folder)
        run.log({f"data/rows/{name}": float(count) for name, count in rows.items()})
    with run.stage("evaluate"):
        batches = held_out_batches(folder, encoder, config.pairs, config.evaluation.batch_rows)
        run.log(judge(encoder, batches, config.evaluation.recall_at, config.objective.matryoshka))
    run.headlines += HEADLINES


def checks(config: EncoderRunConfig, verb: str) -> Iterable[Check]:
    """The creatives, the checkpoint, the encoder's size and memory, and what the trainer needs."""
    if verb == "evaluate":
        folder = run_folder(config) / EXPORT / "encoder"
        missing = ArtifactError(f"run {config.name!r} has no artifact in {folder}", "train it first")
        yield Check("artifact", str(folder), None if folder.is_dir() else missing)
    if verb == "export":
        yield checkpoint_check(config.name, run_folder(config))
    yield _source(config)
    if verb == "train":
        yield from _encoder(config)


def _source(config: EncoderRunConfig) -> Check:
    path = config.pairs.path
    found = "://" in path or any(Path("/").glob(path.lstrip("/")))
    error = None if found else DataError(f"field 'pairs.path': there is nothing at {path}", "set it to your creatives table")
    return Check("creatives", path, error)


def _encoder(config: EncoderRunConfig) -> Iterator[Check]:
    encoder_config = config.encoder
    if isinstance(encoder_config, MllmConfig) and encoder_config.path is not None:
        missing = ArtifactError(f"field 'encoder.path': no checkpoint at {encoder_config.path}", "put a transformers checkpoint there")
        yield Check("pretrained weights", encoder_config.path, None if holds_checkpoint(encoder_config.path) else missing)
        if encoder_config.architecture is None and not holds_checkpoint(encoder_config.path):
            return
    try:
        encoder = build_without_weights(encoder_config)
    except AdrayError as error:
        yield Check("encoder", encoder_config.kind, error)
        return
    sizes = footprint(encoder, config.training, config.objective.chunk_rows)
    wrong = [dim for dim in config.objective.matryoshka if not 1 <= dim <= encoder.dim]
    problem = DataError(f"field 'objective.matryoshka' holds {wrong[:1]}, the vector has {encoder.dim} numbers", "choose shorter lengths")
    yield Check("encoder", f"{encoder_config.kind}, vectors of {encoder.dim}; {sizes.text()}", problem if wrong else None)
    folder = run_folder(config)
    yield from training_checks(config.training, lanes=config.pairs.lanes, run_folder=folder, parameters=sizes.trainable)


def _pairs(config: EncoderRunConfig, run: Run) -> None:
    """The pairs' table; kept once there are checkpoints, as from then on the settings that shape it may not change."""
    folder, marks = run.folder / _PAIRS, run.folder / _PAIRS_FILE
    if not (marks.is_file() and folder.is_dir() and list_checkpoints(run.folder / CHECKPOINTS)):
        write_json(marks, write_pairs(config.pairs, config.seed, folder))
    rows = _read_marks(marks)
    run.log({f"data/rows/{name}": float(count) for name, count in rows.items()})
    run.tables.append(str(folder))


def _read_marks(path: Path) -> dict[str, int]:
    return json.loads(path.read_text(encoding="utf-8"))


def _task(config: EncoderRunConfig, run: Run) -> ContrastiveTask:
    tables = run.folder / _PAIRS
    lineage = {"pairs": {"path": config.pairs.path, "marks": sha256(run.folder / _PAIRS_FILE)}, "run": config.name}
    return ContrastiveTask(
        config.encoder,
        config.objective,
        config.pairs,
        tables.absolute(),
        config.seed,
        tuple(config.evaluation.recall_at),
        config.evaluation.batch_rows,
        lineage,
    )


def _report(run: Run, result: TrainResult) -> None:
    run.artifacts.append(str(result.export_folder / "encoder"))
    run.add_plot("Contrastive loss", loss_curve(run.folder / "metrics.jsonl", run.folder / "plots" / "loss.png"))
    run.headlines += HEADLINES
