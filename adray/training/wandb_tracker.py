"""W&B: config, metrics, pictures, tables, and exported artifacts with their lineage. Imports wandb, so import this late."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from adray.training.config import TrackingConfig


class WandbTracker:
    """One W&B run.

    Args:
        config: Mode, project, picture options.
        run_folder: W&B's own files go to `<run>/wandb`.
        run_name: The run's name; its id too, so that a resumed run goes on in the same place.
        record: The resolved config.
    """

    def __init__(self, config: TrackingConfig, run_folder: Path, run_name: str, record: Mapping[str, Any]) -> None:
        self._config = config
        self._name = run_name
        settings = wandb.Settings(console="off", silent=True, init_timeout=30)
        self._run = wandb.init(
            project=config.project,
            name=run_name,
            id=run_name,
            resume="allow",
            mode="offline" if config.wandb == "offline" else "online",
            dir=str(run_folder),
            config=dict(record),
            settings=settings,
        )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.metrics`."""
        self._run.log(dict(values), step=step)

    def pictures(self, step: int, pictures: Mapping[str, Any]) -> None:
        """See `Tracker.pictures`."""
        if self._config.pictures:
            chosen = list(pictures.items())[: self._config.max_pictures]
            self._run.log({f"pictures/{name}": wandb.Image(pixels) for name, pixels in chosen}, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Tracker.table`."""
        self._run.log({f"tables/{name}": wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def artifact(self, folder: Path) -> None:
        """See `Tracker.artifact`; content hash and lineage become its metadata."""
        manifest = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
        kept = {key: manifest[key] for key in ("kind", "format_version", "content_hash", "metrics", "lineage")}
        artifact = wandb.Artifact(f"{self._name}.{manifest['kind']}", type="model", metadata=kept)
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        """See `Tracker.close`."""
        self._run.finish(exit_code=1 if failed else 0)
