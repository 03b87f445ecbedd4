"""What would stop a MoCo run, found before anything slow starts; and what its losses and its memory will be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from adray.checks import Check
from adray.data.epoch_plan import check_batch_arithmetic
from adray.data.storage import exists
from adray.errors import ConfigError, DataError, ResourceError
from adray.representation.encoders.resnet import ResnetConfig
from adray.representation.encoders.vit import VitConfig
from adray.representation.moco.config import MIN_BATCH_FOR_STATISTICS
from adray.representation.moco.loss import chance_loss, floor_loss
from adray.representation.moco.memory import built_on_meta, estimate
from adray.representation.moco.module import MocoModule
from adray.representation.moco.run_config import MocoRunConfig
from adray.run import run_folder
from adray.training.checks import artifact_check, checkpoint_check, training_checks


def moco_checks(config: MocoRunConfig, verb: str) -> Iterable[Check]:
    """Check tables, losses, memory, and the trainer's section; for other verbs that the run holds what they read.

    Args:
        config: The run's config.
        verb: `train`, `evaluate` or `export`.
    """
    yield from _run_holds(config, verb)
    yield from _tables(config)
    yield Check("moco losses", losses(config))
    yield _statistics(config)
    if verb != "train":
        return
    parameters = None
    if isinstance(config.encoder, ResnetConfig | VitConfig) and config.tune.name == "scratch":
        check, parameters = _memory(config)
        yield check
    if not config.data.cache:
        yield _lanes(config)
    yield from training_checks(config.training, run_folder=run_folder(config), parameters=parameters)


def negatives_seen(config: MocoRunConfig) -> int:
    """Rows whose keys one query meets: a forward pass over all workers. Accumulation adds none."""
    workers = config.training.world_sizes()[0]
    return config.training.micro_batch(workers)[0] * workers


def losses(config: MocoRunConfig) -> str:
    """The loss at chance and at its floor, in words."""
    rows, tau = negatives_seen(config), config.moco.temperature
    text = f"chance {chance_loss(tau, rows):.3f}, floor {floor_loss(tau, rows):.3f}, at temperature {tau:g} with {rows} keys per query"
    if rows < config.training.batch_size:
        text += f" (accumulation: {config.training.batch_size} rows per step)"
    return text


def _run_holds(config: MocoRunConfig, verb: str) -> Iterator[Check]:
    folder = run_folder(config)
    if verb == "evaluate":
        yield artifact_check(config.name, folder, "encoder")
        if config.data.test is None:
            yield Check("labelled pictures", "", ConfigError("field 'data.test' is null", "name the creatives to judge by"))
    if verb == "export":
        yield checkpoint_check(config.name, folder)


def _tables(config: MocoRunConfig) -> Iterator[Check]:
    for name in ("train", "bank", "test"):
        path = getattr(config.data, name)
        if path is None:
            continue
        try:
            problem = None if exists(path) else DataError(f"field 'data.{name}': {path} does not exist", "check the path")
        except DataError as error:
            problem = error
        yield Check(f"{name} pictures", path, problem)


def _statistics(config: MocoRunConfig) -> Check:
    rows = negatives_seen(config)
    if config.moco.norm == "batch" and rows < 2:
        cure = "raise training.batch_size, or set moco.norm=layer"
        return Check("head statistics", "", ConfigError(f"moco.norm is batch, but a forward pass has {rows} row", cure))
    few = " (few: moco.norm=layer needs none)" if config.moco.norm == "batch" and rows < MIN_BATCH_FOR_STATISTICS else ""
    return Check("head statistics", f"{config.moco.norm} norm over {rows} rows{few}")


def _memory(config: MocoRunConfig) -> tuple[Check, int]:
    """Builds the whole module without memory, so that wrong sizes show and full-size runs can be planned on a laptop."""
    encoder = config.encoder
    assert isinstance(encoder, ResnetConfig | VitConfig)
    with torch.device("meta"):
        module = MocoModule(
            built_on_meta(encoder),
            config.moco,
            config.views,
            seed=config.seed,
            export=lambda encoder, folder: None,
            knn=config.evaluation,
            size=config.view_size,
            convolutional=encoder.kind == "resnet",
        )
        found = estimate(module, config.training, view=config.view_size, square=config.square_side)
    gib = 2**30
    text = (
        f"{found.trained:,} trained parameters, {found.key:,} in the momentum copy; per worker {found.total / gib:.2f} GiB = "
        f"state {found.state / gib:.2f} + activations {found.activations / gib:.2f} + views and logits {found.fixed / gib:.2f}"
    )
    return Check("moco memory", text, _too_much(config, found.total)), found.trained


def _too_much(config: MocoRunConfig, needed: int) -> ResourceError | None:
    if config.training.gpus or config.training.workers:
        return None
    import psutil

    total = psutil.virtual_memory().total
    if needed <= total:
        return None
    text = f"the run needs about {needed / 2**30:.1f} of {total / 2**30:.1f} GiB"
    return ResourceError(text, "lower training.micro_batch_size, or set training.gradient_checkpointing")


def _lanes(config: MocoRunConfig) -> Check:
    try:
        for workers in config.training.world_sizes():
            micro = config.training.micro_batch(workers)[0]
            check_batch_arithmetic(config.training.batch_size, micro, config.data.lanes, workers)
    except ConfigError as error:
        return Check("data lanes", "", error)
    return Check("data lanes", f"{config.data.lanes} lanes")
