"""What training a generator needs, found before anything slow starts."""

from __future__ import annotations

from collections.abc import Iterator

from adray.checks import Check
from adray.data.parquet import open_parquet
from adray.errors import AdrayError, ConfigError
from adray.generation.architectures import meta_architecture
from adray.generation.components import Components, has_part, meta_components
from adray.generation.diffusion.building import meta_build
from adray.generation.diffusion.config import DiffusionRunConfig
from adray.generation.diffusion.source import picture_columns
from adray.generation.footprint import denoising_footprint, parameters
from adray.generation.rfft.source import request_columns
from adray.generation.schedule import make_scheduler
from adray.run import run_folder
from adray.training.checks import artifact_check, checkpoint_check, training_checks, worker_memory_check


def all_checks(config: DiffusionRunConfig, verb: str) -> Iterator[Check]:
    """Pictures, the generator built without memory, memory per worker, and the trainer's own checks."""
    folder = run_folder(config)
    if verb == "evaluate":
        yield artifact_check(config.name, folder, "generator")
    elif verb == "export":
        yield checkpoint_check(config.name, folder)
    for name, path in (("data.train", config.data.train), ("data.holdout", config.data.holdout)):
        yield _table_check(name, path, config)
    parts: Components | None
    try:
        parts = _parts(config)
        make_scheduler(parts.scheduler, config.evaluation.sampling.scheduler, config.evaluation.sampling.steps)
        yield Check("generator", config.generator or "built from nothing")
    except AdrayError as error:
        yield Check("generator", config.generator or "built from nothing", error)
        if config.architecture is None:
            return
        parts = meta_architecture(config.architecture)
    sizes = {name: parameters([getattr(parts, name)]) for name in ("unet", "controlnet", "text_encoder", "vae")}
    text = ", ".join(f"{name} {count:,}{' (trained)' if name in config.trained else ''}" for name, count in sizes.items())
    yield Check("parameters", text)
    yield _side_check(config, parts)
    if verb == "train":
        yield memory_check(config, parts)
        learning = sum(sizes[name] for name in config.trained)
        yield from training_checks(config.training, lanes=config.data.lanes, run_folder=folder, parameters=learning)


def memory_check(config: DiffusionRunConfig, parts: Components) -> Check:
    """Memory of one worker; a problem where a GPU that is there is too small."""
    training = config.training
    micro, _ = training.micro_batch(training.world_sizes()[0])
    half, recompute = training.precision != "fp32", training.gradient_checkpointing
    found = denoising_footprint(parts, config.trained, config.data.size, micro, half=half, recompute=recompute)
    text = f"{found.text()} of {micro} pictures of {config.data.size} px"
    return worker_memory_check(text, found.total, training)


def _parts(config: DiffusionRunConfig) -> Components:
    if config.generator is None:
        return meta_build(config.sizes)
    copied = config.controlnet is None and not has_part(config.generator, "controlnet")
    return meta_components(config.generator, config.controlnet, copied)


def _table_check(name: str, path: str, config: DiffusionRunConfig) -> Check:
    try:
        table = open_parquet(path)
        columns = picture_columns(table.schema.names, config.caption, path)
        if name == "data.holdout":
            request_columns(table.schema.names, path)
    except AdrayError as error:
        return Check(name, path, error)
    return Check(name, f"{path}: {table.rows:,} rows, reads {', '.join(columns)}")


def _side_check(config: DiffusionRunConfig, parts: Components) -> Check:
    """Whether pictures of the wanted size are a whole number of what the UNet halves."""
    step, side = parts.multiple, config.data.size
    text = f"{side} px, {side // parts.latent_scale} x {side // parts.latent_scale} latent cells"
    problem = ConfigError(f"data.size is {side}", f"the generator takes multiples of {step}")
    return Check("picture size", text, problem if side % step else None)
