"""What a generation needs, found before anything slow starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from adray.artifact import load_artifact
from adray.checks import Check
from adray.data.sources import open_source
from adray.errors import AdrayError, ConfigError, DataError, ResourceError
from adray.feedback.artifact import KIND as INSPECTOR
from adray.generation.components import Components, meta_components
from adray.generation.footprint import ROUND_UP, parameters
from adray.generation.prompts import draw
from adray.generation.recurrent.config import GenerationRunConfig
from adray.generation.recurrent.requests import request_columns


def all_checks(config: GenerationRunConfig) -> Iterator[Check]:
    """Requests and their columns, prompts, generator, sides of pictures, memory of a worker, inspector, GPUs."""
    yield _check("requests readable", config.data.requests, lambda: _requests(config))
    yield _check("prompts", "", lambda: _prompts(config))
    try:
        components = meta_components(config.generator, config.controlnet)
    except AdrayError as error:
        yield Check("generator", config.generator, error)
    else:
        yield Check("generator", f"{config.generator}: {parameters(components.networks()):,} parameters")
        yield _check("sides of pictures", "", lambda: _sides(config, components))
        yield _check("memory per worker", "", lambda: _memory(config, components))
    if config.inspector is None:
        yield Check("inspector", "none: every first picture is kept")
    else:
        inspector = config.inspector
        yield _check("inspector", inspector, lambda: f"{inspector}, content {load_artifact(inspector, INSPECTOR).content_hash[:12]}")
    if config.job.gpus and config.job.workers == 0:
        there = torch.cuda.is_available()
        missing = ResourceError("field 'job.gpus' is true and this process has no GPU", "set job.gpus=false, or job.workers on a cluster")
        yield Check("gpus", "one GPU, in this process", None if there else missing)


def _check(name: str, detail: str, what: Callable[[], str]) -> Check:
    try:
        return Check(name, what())
    except AdrayError as error:
        return Check(name, detail, error)


def _requests(config: GenerationRunConfig) -> str:
    source = open_source(config.data.requests)
    columns = request_columns(source, config.data.per)
    if columns.text is None and config.prompts.reads_titles():
        raise DataError(f"{source.path} has neither column 'title' nor 'copy', and a prompt has a slot {{title}}", "take the slot out")
    return f"{source.path}: {source.kind}, one request per {config.data.per}, products in {columns.picture!r}, titles in {columns.text!r}"


def _prompts(config: GenerationRunConfig) -> str:
    first = draw(config.prompts, config.seed, "example", 0, "<title>")
    return f"{len(config.prompts.entries)} entries, {len(config.prompts.colours)} colours, e.g. {first.prompt!r}"


def _sides(config: GenerationRunConfig, components: Components) -> str:
    multiple, size = components.multiple, config.placement.size
    asked = config.placement.multiple
    if size % multiple:
        raise ConfigError(
            f"field 'placement.size' is {size}, the generator makes multiples of {multiple}", f"set {size - size % multiple or multiple}"
        )
    if asked is not None and asked % multiple:
        raise ConfigError(f"field 'placement.multiple' is {asked}, the generator makes multiples of {multiple}", "leave it unset")
    return f"{size} px, multiples of {multiple}"


def _memory(config: GenerationRunConfig, components: Components) -> str:
    """Weights as they are loaded, beside what the device has."""
    needed = ROUND_UP * 4 * parameters(components.networks())
    text = f"at least {needed / 2**20:,.0f} MiB of weights, batches of {config.job.batch_rows} pictures"
    if config.job.gpus and torch.cuda.is_available():
        there = torch.cuda.get_device_properties(0).total_memory
        if needed > there:
            raise ResourceError(f"a worker needs {text}, its GPU has {there / 2**30:.0f} GiB", "use a larger GPU")
    return text
