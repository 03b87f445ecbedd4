"""Takes DeepSpeed's checkpoint files out of its hands. Imports DeepSpeed, so import this late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine

from adray.training.strategy import WriteState


class HandingOver(CheckpointEngine):
    """Gives the states that DeepSpeed wants to save to our store, which writes them atomically or in the background.

    Args:
        folder: The checkpoint's folder; files are named relative to it.
        write: Takes each file.
    """

    def __init__(self, folder: Path, write: WriteState) -> None:
        super().__init__()
        self.name = "adray"
        self._folder = folder
        self._write = write

    def create(self, info: Any) -> None:
        """Nothing to announce."""

    def save(self, state_dict: Any, path: str) -> None:
        """Pass one file on."""
        self._write(str(Path(path).relative_to(self._folder)), state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read a file of our own run folder: these are pickles, so files from elsewhere must never come here."""
        return torch.load(path, map_location=map_location, weights_only=False)

    def commit(self, info: Any) -> bool:
        """The store commits."""
        return True
