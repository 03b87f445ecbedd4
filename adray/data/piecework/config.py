"""How the work of a long job over a table is shared out."""

from __future__ import annotations

from pydantic import Field

from adray.config import Config


class WorkConfig(Config):
    """The workers."""

    workers: int = Field(default=0, ge=0)
    """Ray actors, each with its own models; 0 works in this process, without Ray."""
    gpus: bool = False
    """One GPU per worker (or this process's)."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves per worker."""


class ModelWorkConfig(WorkConfig):
    """Workers that run a network over rows."""

    threads: int = Field(default=0, ge=0)
    """Torch threads per worker; 0: as many as `cpus_per_worker` under Ray, torch's own choice in this process."""
    batch_rows: int = Field(default=32, ge=1)
    """Rows per forward pass."""
    chunk_rows: int = Field(default=512, ge=1)
    """Rows per work item: what is lost when a worker dies and what is done at once on resuming."""
    prefetch: int = Field(default=0, ge=0)
    """Batches decoded ahead by a thread while the network works; worth 2 or more on a GPU."""

    def torch_threads(self) -> int:
        """Threads that a worker sets; 0 leaves torch's own choice."""
        return self.threads or (max(1, int(self.cpus_per_worker)) if self.workers else 0)
