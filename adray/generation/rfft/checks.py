"""What fine-tuning needs, found before anything slow starts."""

from __future__ import annotations

from collections.abc import Iterator

from adray.artifact import load_artifact
from adray.checks import Check
from adray.data.parquet import open_parquet
from adray.errors import AdrayError, ConfigError
from adray.feedback.artifact import KIND, load_inspector
from adray.generation.architectures import meta_architecture
from adray.generation.components import Components, meta_components
from adray.generation.footprint import feedback_footprint, parameters
from adray.generation.rfft.config import RfftRunConfig
from adray.generation.rfft.source import request_columns
from adray.generation.schedule import make_scheduler
from adray.run import run_folder
from adray.training.checks import artifact_check, checkpoint_check, training_checks, worker_memory_check


def all_checks(config: RfftRunConfig, verb: str) -> Iterator[Check]:
    """Products, inspector, the generator built without memory, memory per worker, and the trainer's own checks."""
    folder = run_folder(config)
    if verb == "evaluate":
        yield artifact_check(config.name, folder, "generator")
    elif verb == "export":
        yield checkpoint_check(config.name, folder)
    for name in ("train", "holdout"):
        yield _table_check(name, config.data.table(name))
    inspector, check = _inspector(config)
    yield check
    try:
        parts = meta_components(config.generator, config.controlnet)
        make_scheduler(parts.scheduler, config.sampling.scheduler, config.sampling.steps)
        yield Check("generator", config.generator)
    except AdrayError as error:
        yield Check("generator", config.generator, error)
        if config.architecture is None:
            return
        parts = meta_architecture(config.architecture)
    trained = parameters([parts.controlnet])
    frozen = parameters([parts.unet, parts.vae, parts.text_encoder])
    yield Check("networks", f"{trained:,} trained parameters (ControlNet), {frozen:,} frozen")
    yield _side_check(config, parts)
    if verb == "train":
        yield memory_check(config, parts, inspector)
        yield from training_checks(config.training, lanes=config.data.lanes, run_folder=folder, parameters=trained)


def memory_check(config: RfftRunConfig, parts: Components, inspector: int) -> Check:
    """Memory of one worker; a problem where a GPU that is there is too small."""
    training = config.training
    micro, _ = training.micro_batch(training.world_sizes()[0])
    found = feedback_footprint(
        parts,
        config.placement.size,
        micro,
        teacher=config.feedback.regulariser != "none",
        half=training.precision != "fp32",
        recompute=training.gradient_checkpointing,
        inspector=inspector,
    )
    text = f"{found.text()} of {micro} pictures of {config.placement.size} px"
    return worker_memory_check(text, found.total, training)


def _table_check(name: str, path: str) -> Check:
    try:
        table = open_parquet(path)
        columns = request_columns(table.schema.names, path)
    except AdrayError as error:
        return Check(name, path, error)
    return Check(name, f"{path}: {table.rows:,} rows, reads {', '.join(columns)}")


def _inspector(config: RfftRunConfig) -> tuple[int, Check]:
    path = config.feedback.inspector
    try:
        artifact = load_artifact(path, KIND)
        count = parameters([load_inspector(artifact)])
    except AdrayError as error:
        return 0, Check("inspector", path, error)
    return count, Check("inspector", f"{path}, content {artifact.content_hash[:12]}, {count:,} parameters")


def _side_check(config: RfftRunConfig, parts: Components) -> Check:
    """Whether pictures of the wanted size are a whole number of what the UNet halves."""
    step, side = parts.multiple, config.placement.size
    text = f"{side} px, {side // parts.latent_scale} x {side // parts.latent_scale} latent cells"
    problem = ConfigError(f"placement.size is {side}", f"the generator takes multiples of {step}")
    return Check("picture size", text, problem if side % step else None)
