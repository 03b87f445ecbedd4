"""What a run needs before it trains: decoded pictures or encoded vectors, and the task that is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adray.representation.moco.batches import LabelledBatch
from adray.representation.moco.config import AdapterConfig, LoraConfig
from adray.representation.moco.run_config import MocoRunConfig
from adray.representation.moco.store import build_store
from adray.representation.moco.task import ScratchTask
from adray.run import Run


@dataclass(frozen=True)
class Prepared:
    """A run made ready.

    Attributes:
        task: What is trained; a `TrainTask` whose modules are `MocoModule`s.
        baseline: Name of the metric of the encoder before training.
        judged_with_encoder: The labelled batches as the exported encoder reads them; None when nothing is judged.
    """

    task: Any
    baseline: str
    judged_with_encoder: Callable[[], Iterable[LabelledBatch] | None]


def prepare(config: MocoRunConfig, run: Run) -> Prepared:
    """Decode or encode what the run reads; what was made before from the same tables is used again.

    Raises:
        DataError: If a table cannot be used.
    """
    if isinstance(config.tune, AdapterConfig):
        from adray.representation.moco.adapter_task import prepare_adapter

        return prepare_adapter(config, config.tune, run)
    if isinstance(config.tune, LoraConfig):
        from adray.representation.moco.lora_task import prepare_lora

        return prepare_lora(config, config.tune, run)
    folders = {}
    with run.stage("pictures"):
        if config.data.cache:
            folders["train"] = _store(config, run, "train", config.data.train, config.square_side, None)
        if config.data.test is not None:
            bank = config.data.bank or config.data.train
            folders["bank"] = _store(config, run, "bank", bank, config.view_size, config.data.label)
            folders["test"] = _store(config, run, "test", config.data.test, config.view_size, config.data.label)
    lineage = {"tables": {name: path for name, path in config.data.model_dump(mode="json").items() if name in ("train", "bank", "test")}}
    task = ScratchTask(config, folders.get("train"), folders.get("bank"), folders.get("test"), lineage)
    return Prepared(task, "knn_random_init", task.eval_batches)


def _store(config: MocoRunConfig, run: Run, part: str, path: str, side: int, label: str | None) -> Path:
    folder = run.folder / "pictures" / part
    store = build_store(path, side, folder, label=label)
    run.tables.append(path)
    run.log({f"data/rows/{part}": len(store), f"data/quarantined/{part}": len(store.lost)})
    return folder
