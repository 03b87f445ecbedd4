"""The loop: one function of (job, reporter), the same in this process, in Ray workers and under torchrun."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from adray.errors import DataError, TrainingError
from adray.files import write_json
from adray.run import CHECKPOINTS_FOLDER
from adray.training.activation_checkpointing import checkpoint_activations
from adray.training.checkpoint import Checkpoint, CheckpointStore
from adray.training.config import TrainingConfig
from adray.training.deepspeed_strategy import DeepSpeedStrategy
from adray.training.distributed import World, joined_world, seed_everything
from adray.training.dry_run import dry_run
from adray.training.ema import WeightAverage
from adray.training.evaluation import evaluate, export, whole_module
from adray.training.meter import Meter
from adray.training.module import Batch, TrainModule, TrainTask
from adray.training.reporter import Reporter
from adray.training.resume import Position, check_convertible, check_fits, rank_state, restore_rank_state
from adray.training.schedule import lr_factor
from adray.training.strategy import Engine, Strategy
from adray.training.tracking import Trackers, open_trackers

CHECKPOINTS = CHECKPOINTS_FOLDER
EXPORT = "export"
DEEPSPEED_FILE = "deepspeed.json"
_STOP_CHECK_S = 1.0
_PREEMPTION_CHECK_S = 10.0


@dataclass(frozen=True)
class TrainJob:
    """All that a worker needs to know; picklable.

    Attributes:
        task: Builds the module and the data.
        config: The training section.
        run_folder: The run's folder, absolute, seen by all workers.
        run_name: The run's name.
        seed: Seed of weights and of everything random in training.
        record: The run's whole config, for the tracker.
    """

    task: TrainTask
    config: TrainingConfig
    run_folder: str
    run_name: str
    seed: int
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerResult:
    """What a worker returns: plain values only, since Ray carries it to the driver.

    Attributes:
        metrics: Last training row and last evaluation (rank 0; elsewhere without the evaluation).
        steps: Optimizer steps done since the run's first start.
        epochs: Whole epochs done.
        stopped: Whether it ended early because it was asked to.
        world_size: Processes at the end.
        seconds: Wall time by stage.
    """

    metrics: dict[str, float]
    steps: int
    epochs: int
    stopped: bool
    world_size: int
    seconds: dict[str, float]


def train_worker(job: TrainJob, reporter: Reporter) -> WorkerResult:
    """Train on this process, together with the others of its group.

    Args:
        job: What to train.
        reporter: The launcher's side.

    Returns:
        The result; also when the run had already been finished and there was nothing left to do.

    Raises:
        TrainingError: For a loss that is not finite, an unwritable checkpoint, a resumed run that does not fit.
        DataError: If the source ends before its time.
    """
    if job.config.threads:
        torch.set_num_threads(job.config.threads)
    with joined_world(job.config) as world:
        return _Loop(job, reporter, world).run()


class _Loop:
    """One worker's run. All ranks go through the same methods in the same order."""

    _engine: Engine
    _strategy: Strategy
    _average: WeightAverage | None = None
    _tracker: Trackers | None = None

    def __init__(self, job: TrainJob, reporter: Reporter, world: World) -> None:
        self._job, self._reporter, self._world = job, reporter, world
        self._config = config = job.config
        self._folder = Path(job.run_folder)
        self._store = CheckpointStore(
            self._folder / CHECKPOINTS,
            world,
            num_to_keep=config.num_to_keep,
            in_background=config.checkpoint_async,
            timeout_s=config.collective_timeout_s,
        )
        self._strategy = DeepSpeedStrategy(config)
        self._seconds: dict[str, float] = {}
        self._row: dict[str, float] = {}
        self._evaluation: dict[str, float] = {}
        self._stop_every = self._preemption_every = config.log_every
        self._preemption_saved = False

    def run(self) -> WorkerResult:
        """Set up, train to the end or to a stop, evaluate and export."""
        with self._timed("setup"):
            batches = self._set_up()
        try:
            stopped = self._train(batches)
            result = self._finish(stopped)
        except BaseException:
            self._close_tracker(failed=True)
            raise
        self._close_tracker(failed=False)
        return result

    def _set_up(self) -> Iterator[Batch] | None:
        config, world = self._config, self._world
        micro, self._accumulation = config.micro_batch(world.size)
        source = self._source = self._job.task.train_source(config.batch_size, micro)
        self._position = Position(0, source.steps_per_epoch(), config)
        saved = self._store.latest()
        if saved is not None:
            check_fits(saved, config, self._position, self._job.seed)
            self._position.step = saved.step
        self._saved_step = saved.step if saved else -1

        seed_everything(self._job.seed)
        module = self._job.task.build_module()
        if config.gradient_checkpointing:
            checkpoint_activations(module)
        # From here on the ranks draw differently, as dropout should.
        seed_everything(self._job.seed + 1 + world.rank)
        batches = None if self._position.finished else self._first_batches()
        if batches is not None and config.zero_stage < 3:
            # Weights that ZeRO-3 has yet to shard may not fit on one device; its first step is the test.
            first = next(batches)
            dry_run(module, first, config, world)
            batches = chain([first], batches)
        self._start_engine(module, saved)
        if world.rank == 0:
            write_json(self._folder / DEEPSPEED_FILE, self._strategy.describe(world.size))
            job = self._job
            self._tracker = open_trackers(config.tracking, self._folder, job.run_name, job.record, self._position.step)
        return batches

    def _first_batches(self) -> Iterator[Batch]:
        """Batches from the present position on; measures how long the first one takes."""
        start = time.perf_counter()
        batches = self._batches()
        first = next(batches, None)
        self._seconds["first_batch"] = time.perf_counter() - start
        if first is None:
            raise DataError(f"the training data ended at step {self._position.step}, before its first batch", "check the table's rows")
        return chain([first], batches)

    def _batches(self) -> Iterator[Batch]:
        epoch, within = self._position.epoch, self._position.within_epoch
        return iter(self._source.batches(epoch, within, self._world.rank, self._world.size))

    def _start_engine(self, module: TrainModule, saved: Checkpoint | None) -> None:
        world, strategy = self._world, self._strategy
        convert = saved is not None and strategy.must_convert(int(saved.metadata["world_size"]), world.size)
        if convert:
            check_convertible(module, self._config)
        self._engine = strategy.prepare(module, world, converted=convert)
        if saved is not None:
            self._engine.load(self._store.converted(saved, strategy.convert) if convert else saved.folder)
        if self._config.ema_decay and world.rank == 0:
            self._average = WeightAverage(module, self._config.ema_decay)
        if saved is not None:
            restore_rank_state(saved, module, self._average, self._config, world, self._job.seed)

    def _train(self, batches: Iterator[Batch] | None) -> bool:
        """Train to the last step; True when asked to stop before."""
        self._meter = Meter(self._world, self._config.batch_size)
        self._engine.module.train()
        # What has been built stays; the collector need not look at it again and again between steps.
        gc.collect()
        gc.freeze()
        try:
            with self._timed("train"):
                while not self._position.finished:
                    if batches is None or self._position.within_epoch == 0 and self._meter.total_steps:
                        batches = self._batches()
                    self._train_step(batches)
                    if self._after_step():
                        return True
        finally:
            gc.unfreeze()
        return False

    def _train_step(self, batches: Iterator[Batch]) -> None:
        engine, meter, position, device = self._engine, self._meter, self._position, self._world.device
        engine.module.before_step(position.progress)
        engine.set_lr_factor(lr_factor(self._config, position.step, position.total))
        for _ in range(self._accumulation):
            with meter.waiting():
                batch = next(batches, None)
            if batch is None:
                raise DataError(f"the training data ended within epoch {position.epoch} at step {position.step}", "check the table's rows")
            outputs = engine.forward(batch if device.type == "cpu" else batch.to(device))
            meter.add(outputs)
            if device.type == "cpu" and not torch.isfinite(outputs["loss"]):
                self._raise_bad_loss(position.step + 1, float(outputs["loss"].detach()))
            engine.backward(outputs["loss"])
            engine.step()
        position.step += 1
        if self._average is not None:
            self._average.update()
        engine.module.after_step(position.progress)
        meter.step_done()

    def _after_step(self) -> bool:
        """Log, checkpoint, evaluate where it is due; True when all ranks agree to stop."""
        config, position = self._config, self._position
        if position.step % config.log_every == 0 or position.epoch_ended or position.finished:
            self._log_row()
        every = config.checkpoint_every
        if position.finished or (position.step % every == 0 if every else position.epoch_ended):
            self._checkpoint()
        passed = position.step // position.steps_per_epoch
        if config.evaluate_every and position.epoch_ended and passed % config.evaluate_every == 0 and not position.finished:
            self._evaluate_between()
        if position.finished or not self._agree_to_stop():
            return False
        self._checkpoint()
        return True

    def _log_row(self) -> None:
        self._check_losses()
        position = self._position
        row = self._meter.row()
        row["train/lr"] = self._config.lr * lr_factor(self._config, position.step - 1, position.total)
        row["epoch"] = position.step / position.steps_per_epoch
        self._row = row
        step_seconds = row.get("speed/step_seconds", _STOP_CHECK_S)
        # The row is the same on every rank, so all ranks check at the same steps.
        self._stop_every = max(1, min(self._config.log_every, round(_STOP_CHECK_S / step_seconds)))
        self._preemption_every = max(1, round(_PREEMPTION_CHECK_S / step_seconds))
        if self._tracker is not None:
            self._tracker.metrics(position.step, row)

    def _check_losses(self) -> None:
        """On a GPU losses are looked at only here, so that steps need not wait for them."""
        ago = self._meter.first_bad_loss()
        if ago is not None:
            self._raise_bad_loss(self._position.step - (ago - 1) // self._accumulation, float("nan"))

    def _raise_bad_loss(self, step: int, value: float) -> None:
        raise TrainingError(
            f"the loss is {value} at step {step} on rank {self._world.rank}",
            "lower training.lr, set training.clip_norm, or look at that step's rows",
        )

    def _agree_to_stop(self) -> bool:
        step = self._position.step
        if step % self._preemption_every == 0 and not self._preemption_saved and self._reporter.preempted():
            # The group is torn down and restarted elsewhere; it will go on from here.
            self._preemption_saved = True
            self._checkpoint()
        if self._world.size == 1:
            return self._reporter.stop_requested()
        if step % self._stop_every:
            return False
        flag = torch.tensor([float(self._reporter.stop_requested())], device=self._world.device)
        return bool(self._world.sum(flag).item())

    def _checkpoint(self) -> None:
        position = self._position
        if self._saved_step == position.step:
            return
        with self._timed("checkpoint", pause=True):
            self._check_losses()
            tensors = rank_state(self._engine.module, self._average, self._config, self._world.rank)
            self._store.save(position.step, position.metadata(self._job.seed), tensors, self._engine.save)
            self._saved_step = position.step
            self._reporter.report({"step": float(position.step), **self._row})

    def _evaluate_between(self) -> None:
        with self._timed("evaluate", pause=True):
            weights = self._engine.whole_weights()
            with self._world.only_rank_zero("evaluate") as mine:
                if mine:
                    module = whole_module(self._job.task, self._engine.module, weights, self._world.device)
                    self._log_evaluation(module)
            self._engine.module.train()

    def _log_evaluation(self, module: TrainModule) -> None:
        self._evaluation, pictures = evaluate(module, self._average, self._job.task, self._world.device)
        if self._tracker is not None:
            self._tracker.metrics(self._position.step, self._evaluation)
            self._tracker.pictures(self._position.step, pictures)

    def _finish(self, stopped: bool) -> WorkerResult:
        with self._timed("checkpoint"):
            self._store.finish()
        engine = self._engine
        weights = None if stopped else engine.whole_weights()
        engine.close()
        if not stopped and self._world.rank == 0:
            module = whole_module(self._job.task, engine.module, weights, self._world.device)
            with self._timed("evaluate"):
                self._log_evaluation(module)
            with self._timed("export"):
                export(module, self._average, self._folder / EXPORT)
            if self._tracker is not None:
                self._tracker.table("evaluation", ["metric", "value"], sorted(self._evaluation.items()))
                self._tracker.artifacts(self._folder / EXPORT)
        meter, position = self._meter, self._position
        metrics = {**self._row, **self._evaluation}
        train_s = self._seconds.get("train", 0.0)
        if meter.total_steps and train_s:
            metrics["speed/total_data_wait_share"] = meter.total_wait_s / train_s
        return WorkerResult(metrics, position.step, position.step // position.steps_per_epoch, stopped, self._world.size, self._seconds)

    def _close_tracker(self, failed: bool) -> None:
        if self._tracker is not None:
            self._tracker.close(failed)

    @contextmanager
    def _timed(self, stage: str, pause: bool = False) -> Iterator[None]:
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        self._seconds[stage] = self._seconds.get(stage, 0.0) + elapsed
        if pause:
            self._meter.pause(elapsed)
