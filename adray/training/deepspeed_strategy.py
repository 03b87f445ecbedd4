"""ZeRO through DeepSpeed: its JSON made from our small typed section, its engine behind our seam."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adray.errors import TrainingError
from adray.training.config import TrainingConfig
from adray.training.distributed import World
from adray.training.module import TrainModule
from adray.training.optimizers import build_optimizer
from adray.training.strategy import WriteState, compute_context

_TAG = "deepspeed"
# DeepSpeed's default buckets (5e8 elements) would allocate gigabytes for the smallest model.
_BUCKET_ELEMENTS = 50_000_000


def deepspeed_config(config: TrainingConfig, world_size: int, *, universal: bool = False) -> dict[str, Any]:
    """The DeepSpeed JSON of a run.

    Only the micro-batch and the accumulation are set; DeepSpeed derives the global batch from them and the world size.
    Nothing is left to "auto". Its per-step printing and timing are off: the loop measures itself.

    Args:
        config: The training section.
        world_size: Number of processes.
        universal: Whether a universal checkpoint will be loaded.
    """
    micro, accumulation = config.micro_batch(world_size)
    result: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": config.clip_norm,
        "zero_optimization": {
            "stage": config.zero_stage,
            "reduce_bucket_size": _BUCKET_ELEMENTS,
            "allgather_bucket_size": _BUCKET_ELEMENTS,
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
        "timers": {"throughput": {"enabled": False}},
    }
    if config.precision == "bf16":
        result["bf16"] = {"enabled": True}
        result["data_types"] = {"grad_accum_dtype": "fp32"}
    if universal:
        result["checkpoint"] = {"load_universal": True}
    return result


def import_deepspeed(gpus: bool) -> Any:
    """Import DeepSpeed for the CPU or the GPU, quietly.

    Raises:
        TrainingError: If it was already imported for the other kind of device.
    """
    if not gpus:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DS_LOG_LEVEL", "warning")
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    if (get_accelerator().device_name() == "cpu") == gpus:
        wanted = "cuda" if gpus else "cpu"
        raise TrainingError(
            f"DeepSpeed runs on {get_accelerator().device_name()} but the run wants {wanted}", f"export DS_ACCELERATOR={wanted}"
        )
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # It would compile a shared-memory all-reduce for inference at first use: minutes without a cache, an error
    # without a compiler, and never called in training.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class DeepSpeedStrategy:
    """Builds DeepSpeed engines for one training config."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config

    def describe(self, world_size: int) -> dict[str, Any]:
        """The DeepSpeed JSON."""
        return deepspeed_config(self._config, world_size)

    def prepare(self, module: TrainModule, world: World, *, converted: bool) -> DeepSpeedEngine:
        """Wrap a module; see `Strategy.prepare`."""
        deepspeed = import_deepspeed(self._config.gpus)
        module.to(world.device)
        optimizer = build_optimizer(module.parameter_groups(), self._config, world.device)
        peaks = [group["lr"] for group in optimizer.param_groups]
        json = deepspeed_config(self._config, world.size, universal=converted)
        with contextlib.redirect_stdout(io.StringIO()):
            engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=json, dist_init_required=False)
        return DeepSpeedEngine(engine, module, self._config, world, peaks)

    def must_convert(self, saved_world_size: int, world_size: int) -> bool:
        """ZeRO's shards fit the world size that wrote them; without ZeRO everything is whole."""
        return self._config.zero_stage > 0 and saved_world_size != world_size

    def convert(self, saved: Path, converted: Path) -> None:
        """Make a universal checkpoint (one process, no collectives)."""
        import_deepspeed(self._config.gpus)
        from deepspeed.checkpoint import ds_to_universal

        converted.mkdir(parents=True)
        arguments = argparse.Namespace(
            input_folder=str(saved / _TAG),
            output_folder=str(converted / _TAG),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ds_to_universal.main(arguments)


class DeepSpeedEngine:
    """A DeepSpeed engine behind the seam; see `adray.training.strategy.Engine`."""

    def __init__(self, engine: Any, module: TrainModule, config: TrainingConfig, world: World, peaks: list[float]) -> None:
        self.module = module
        self._engine = engine
        self._config = config
        self._world = world
        self._peaks = peaks
        self._autocast = config.precision != "fp32"
        if world.size == 1 and config.zero_stage == 0:
            # Nothing to reduce: spares a copy of every gradient through DeepSpeed's bucket.
            engine.enable_backward_allreduce = False
        if self._autocast:
            # Inside the engine's call, which would switch off an autocast that surrounds it.
            module.forward = _autocasting(module, config, world.device)  # type: ignore[method-assign,assignment]
        # The converter that we use ourselves makes DeepSpeed's recovery script needless.
        engine._copy_recovery_script = lambda path: None

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """See `Engine.forward`."""
        return self._engine(batch)

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`."""
        self._engine.backward(loss)

    def step(self) -> None:
        """See `Engine.step`."""
        self._engine.step()

    def set_lr_factor(self, factor: float) -> None:
        """See `Engine.set_lr_factor`."""
        # Loading a state replaces the group dicts, so they are looked up every time.
        for group, peak in zip(self._engine.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def save(self, folder: Path, write: WriteState) -> None:
        """See `Engine.save`; DeepSpeed puts the rank into its file names."""
        from adray.training.deepspeed_files import HandingOver

        self._engine.checkpoint_engine = HandingOver(folder, write)
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False, exclude_frozen_parameters=self._config.zero_stage < 3)

    def load(self, folder: Path) -> None:
        """See `Engine.load`."""
        # DeepSpeed itself would fail on a bare assertion.
        if not (folder / _TAG).is_dir():
            raise TrainingError(f"checkpoint {folder} holds no DeepSpeed state", "remove this checkpoint and resume from an older one")
        self._engine.load_checkpoint(str(folder), tag=_TAG, load_module_strict=self._config.zero_stage == 3)

    def close(self) -> None:
        """See `Engine.close`."""
        self.module.__dict__.pop("forward", None)
        self._engine.destroy()

    def whole_weights(self) -> dict[str, Tensor] | None:
        """See `Engine.whole_weights`; gathers sharded weights, and the fp32 master copy of bf16 ones."""
        if self._config.precision != "bf16" and self._config.zero_stage < 3:
            return None
        from deepspeed.utils import safe_get_full_fp32_param

        whole: dict[str, Tensor] | None = {} if self._world.rank == 0 else None
        for name, parameter in self.module.named_parameters():
            value = safe_get_full_fp32_param(parameter) if parameter.requires_grad else parameter.detach().float()
            if whole is not None:
                whole[name] = value.detach().cpu().clone()
        if whole is not None:
            whole.update({name: b.detach().cpu().clone() for name, b in self.module.named_buffers()})
        return whole


def _autocasting(module: TrainModule, config: TrainingConfig, device: torch.device) -> Callable[[Any], dict[str, Tensor]]:
    forward = module.forward

    def run(batch: Any) -> dict[str, Tensor]:
        # Evaluation is done in full precision.
        if not module.training:
            return forward(batch)
        with compute_context(config, device):
            return forward(batch)

    return run
