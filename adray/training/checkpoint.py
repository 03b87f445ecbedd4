"""Checkpoints of a run: complete or absent, the same under every launcher.

`<run>/checkpoints/step-00000120/` holds DeepSpeed's shards of all ranks, each rank's random state, the weight average,
and `metadata.json`: data position, world size, config, versions and every file's size. It is filled under
`step-00000120.partial` and renamed when all ranks are done.

DeepSpeed's files are pickles, and unpickling runs code. So state is only ever loaded from the run's own folder, from a
checkpoint whose metadata is ours and lists exactly the files that lie there. Do not copy foreign files into a run.
Exported artifacts hold no pickles.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adray.errors import TrainingError
from adray.files import write_json
from adray.run import versions
from adray.training.distributed import World

FORMAT = "adray.training.checkpoint"
FORMAT_VERSION = 1
_METADATA = "metadata.json"
_PARTIAL = ".partial"
_CONVERTED = "converted"
_POLL_S = 0.05


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: Where it lies.
        metadata: What `metadata.json` says.
    """

    folder: Path
    metadata: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done when it was made."""
        return int(self.metadata["step"])

    def rank_tensors(self, rank: int, name: str) -> dict[str, Tensor] | None:
        """Tensors that a rank saved under a name, or None."""
        path = self.folder / _rank_file(rank, name)
        return load_file(path) if path.is_file() else None


def _rank_file(rank: int, name: str) -> str:
    # The rank is in every file name: ranks that write the same name would overwrite each other.
    return f"rank-{rank:05d}-{name}.safetensors"


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Complete checkpoints, oldest first. Damaged and unfinished ones are passed over.

    Raises:
        TrainingError: If a checkpoint was not written by this trainer, or by a newer one.
    """
    found = []
    for path in sorted(folder.glob("step-*")):
        if path.is_dir() and path.suffix != _PARTIAL and (path / _METADATA).is_file():
            checkpoint = _open(path)
            if checkpoint is not None:
                found.append(checkpoint)
    return sorted(found, key=lambda c: c.step)


def _open(path: Path) -> Checkpoint | None:
    try:
        metadata = json.loads((path / _METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT or metadata.get("version") != FORMAT_VERSION:
        raise TrainingError(
            f"checkpoint {path} was not written by this trainer (format {FORMAT} {FORMAT_VERSION})", "remove it from the run's folder"
        )
    return Checkpoint(path, metadata) if metadata["files"] == _file_sizes(path) else None


def _file_sizes(path: Path) -> dict[str, int]:
    files = (p for p in path.rglob("*") if p.is_file() and p.name != _METADATA)
    return {str(p.relative_to(path)): p.stat().st_size for p in sorted(files)}


class CheckpointStore:
    """Writes and finds the checkpoints of one run; one object per rank, called by all ranks together.

    Args:
        folder: `<run>/checkpoints`, on storage that every rank sees.
        world: The processes.
        num_to_keep: Complete checkpoints to keep.
        in_background: Write in a thread, from a copy in memory. The thread makes no collective calls; at most one
            checkpoint is in flight, and what went wrong with it is raised by the next `save` or `finish`.
        timeout_s: How long rank 0's thread waits for the other ranks' files.
    """

    def __init__(self, folder: Path, world: World, *, num_to_keep: int, in_background: bool, timeout_s: float) -> None:
        self._folder = folder
        self._world = world
        self._num_to_keep = num_to_keep
        self._in_background = in_background
        self._timeout_s = timeout_s
        self._pending: tuple[int, threading.Thread, list[str]] | None = None

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint, the same on every rank."""
        found = None
        if self._world.rank == 0:
            for unfinished in self._folder.glob(f"*{_PARTIAL}"):
                shutil.rmtree(unfinished, ignore_errors=True)
            found = next((str(c.folder) for c in reversed(list_checkpoints(self._folder))), None)
        path = self._world.same_for_all(found)
        return None if path is None else _open(Path(path))

    def save(
        self,
        step: int,
        metadata: Mapping[str, Any],
        tensors: Mapping[str, Mapping[str, Tensor]],
        save_engine: Callable[[Path, Callable[[str, Any], None]], None],
    ) -> None:
        """Write one checkpoint.

        Args:
            step: Optimizer steps done.
            metadata: What a resumed run needs to know.
            tensors: This rank's own tensors, by name.
            save_engine: `Engine.save`.

        Raises:
            TrainingError: If this or the previous one in flight could not be written; older ones stay usable.
        """
        self.finish()
        partial = self._folder / f"step-{step:08d}{_PARTIAL}"
        problem = self._make_folder(partial) if self._world.rank == 0 else None
        self._raise_if_failed(step, [self._world.same_for_all(problem)])
        files = _RankFiles(partial, keep=self._in_background)
        save_engine(partial, files.add)
        for name, values in tensors.items():
            if values:
                files.add(_rank_file(self._world.rank, name), dict(values))
        details = {"step": step, "world_size": self._world.size, **metadata}
        if self._in_background:
            problems: list[str] = []
            thread = threading.Thread(
                target=self._write_and_commit, args=(partial, files, details, problems), daemon=True, name="checkpoint"
            )
            self._pending = (step, thread, problems)
            thread.start()
            return
        try:
            self._raise_if_failed(step, self._world.gather(files.problem))
            problem = self._commit(partial, details) if self._world.rank == 0 else None
            self._raise_if_failed(step, [self._world.same_for_all(problem)])
        finally:
            if self._world.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)

    def finish(self) -> None:
        """Wait for a checkpoint in flight.

        Raises:
            TrainingError: If it could not be written.
        """
        if self._pending is None:
            return
        step, thread, problems = self._pending
        self._pending = None
        thread.join()
        self._raise_if_failed(step, self._world.gather(problems[0] if problems else None))

    def _make_folder(self, partial: Path) -> str | None:
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        except OSError as error:
            return str(error)
        return None

    def _raise_if_failed(self, step: int, problems: list[str | None]) -> None:
        problem = next((p for p in problems if p is not None), None)
        if problem is None:
            return
        good = [c.step for c in list_checkpoints(self._folder)]
        last = f"the checkpoint of step {good[-1]} is still good: resume from it" if good else "there is no earlier checkpoint"
        raise TrainingError(
            f"checkpoint of step {step} in {self._folder} could not be written: {problem}", f"free space or mend the storage; {last}"
        )

    def _write_and_commit(self, partial: Path, files: _RankFiles, details: Mapping[str, Any], problems: list[str]) -> None:
        """Body of the background thread."""
        files.write_kept()
        marker = partial / f"rank-{self._world.rank:05d}"
        # An empty file can be made on a full disk, so the others learn of the failure at once.
        for_others = marker.with_suffix(".failed" if files.problem else ".done")
        try:
            for_others.touch()
            if files.problem is None and self._world.rank == 0:
                files.problem = self._wait_for_ranks(partial) or self._commit(partial, details)
        except OSError as error:
            files.problem = files.problem or str(error)
        if files.problem is not None:
            problems.append(files.problem)
            if self._world.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)

    def _wait_for_ranks(self, partial: Path) -> str | None:
        never = threading.Event()
        for _ in range(int(self._timeout_s / _POLL_S) + 1):
            failed = sorted(partial.glob("rank-*.failed"))
            if failed:
                return f"{failed[0].stem} could not write its files"
            done = list(partial.glob("rank-*.done"))
            if len(done) == self._world.size:
                for marker in done:
                    marker.unlink()
                return None
            never.wait(_POLL_S)
        return f"not every rank wrote its files within {self._timeout_s:g} s"

    def _commit(self, partial: Path, details: Mapping[str, Any]) -> str | None:
        try:
            header = {"format": FORMAT, "version": FORMAT_VERSION, "created": datetime.now(timezone.utc).isoformat(timespec="seconds")}
            write_json(partial / _METADATA, {**header, **details, "versions": versions(), "files": _file_sizes(partial)})
            final = partial.with_suffix("")
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            self._prune()
        except OSError as error:
            return str(error)
        return None

    def _prune(self) -> None:
        for old in list_checkpoints(self._folder)[: -self._num_to_keep]:
            # Renamed first: half a checkpoint must not look like one.
            doomed = old.folder.with_suffix(_PARTIAL)
            old.folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
            shutil.rmtree(self._folder / _CONVERTED / old.folder.name, ignore_errors=True)

    def converted(self, checkpoint: Checkpoint, convert: Callable[[Path, Path], None]) -> Path:
        """The checkpoint in the form that any world size can load: made once, kept beside it.

        Args:
            checkpoint: A complete checkpoint.
            convert: `Strategy.convert`; runs on rank 0 while the others wait.
        """
        final = self._folder / _CONVERTED / checkpoint.folder.name
        with self._world.only_rank_zero("convert") as mine:
            if mine and not final.is_dir():
                partial = final.with_suffix(_PARTIAL)
                shutil.rmtree(partial, ignore_errors=True)
                convert(checkpoint.folder, partial)
                os.replace(partial, final)
        return final


class _RankFiles:
    """One rank's files of one checkpoint: written at once, or kept in memory until `write_kept`."""

    def __init__(self, folder: Path, *, keep: bool) -> None:
        self._folder = folder
        self._keep = keep
        self._kept: list[tuple[str, Any]] = []
        self.problem: str | None = None

    def add(self, name: str, state: Any) -> None:
        state = _copied(state)
        if self._keep:
            self._kept.append((name, state))
        else:
            self._write(name, state)

    def write_kept(self) -> None:
        while self._kept:
            self._write(*self._kept.pop(0))

    def _write(self, name: str, state: Any) -> None:
        # Never raises: between the writes DeepSpeed makes collective calls, in which the other ranks would hang.
        if self.problem is not None:
            return
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".safetensors":
                save_file({k: v.contiguous() for k, v in state.items()}, path)
            else:
                with path.open("wb") as stream:
                    torch.save(state, stream)
        except Exception as error:  # torch and safetensors wrap a full disk in errors of their own
            self.problem = " ".join(f"{path.name}: {error}".split())


def _copied(value: Any) -> Any:
    """Tensors copied to the CPU, containers rebuilt. A view becomes a tensor of its own: saving it would save its whole storage."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        # DeepSpeed tells OrderedDict from dict when it loads.
        return type(value)((k, _copied(v)) for k, v in value.items())
    if type(value) in (list, tuple):
        return type(value)(_copied(v) for v in value)
    return value
