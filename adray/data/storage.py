"""Finding and opening files, local or on object storage."""

from __future__ import annotations

import difflib
import fnmatch
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyarrow import fs

from adray.errors import DataError

_GLOB = frozenset("*?[")


def open_filesystem(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path within it.

    Credentials of object stores come from their usual environment variables or instance roles.

    Raises:
        DataError: If the URI's scheme is unknown.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).expanduser().absolute())
    try:
        return fs.FileSystem.from_uri(path)
    except Exception as error:  # Arrow raises several types here, among them its own without a common base.
        raise DataError(f"{path} cannot be opened: {error}", "use a local path, s3://, gs:// or another scheme that Arrow knows") from None


def find_files(path: str, suffixes: Sequence[str]) -> tuple[fs.FileSystem, list[str]]:
    """Files that a path stands for: itself, everything below a folder, or what a glob matches.

    Hidden files and folders (`.x`, `_x`) below a folder are passed over: they are other writers' half-done work.

    Args:
        path: A file, folder or glob; local or a URI.
        suffixes: Endings to keep when `path` is a folder, in lower case, e.g. `(".parquet",)`.

    Returns:
        The file system and the sorted paths within it.

    Raises:
        DataError: If nothing is there, naming what is nearest.
    """
    filesystem, inner = open_filesystem(path)
    if _GLOB & set(inner):
        found = [p for p in _walk(filesystem, _fixed_part(inner)) if fnmatch.fnmatchcase(p, inner)]
    else:
        info = _info(filesystem, inner, path)
        if info.type == fs.FileType.File:
            return filesystem, [inner]
        if info.type == fs.FileType.NotFound:
            raise DataError(f"{path} does not exist", _nearest(path))
        found = [p for p in _walk(filesystem, inner) if p.lower().endswith(tuple(suffixes)) and not _hidden(p[len(inner) :])]
    if not found:
        raise DataError(f"{path} holds no {' or '.join(suffixes)} file", "check the path")
    return filesystem, sorted(found)


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, inner = open_filesystem(path)
    return _info(filesystem, inner, path).type != fs.FileType.NotFound


def is_folder(path: str) -> bool:
    """Whether a folder is there."""
    filesystem, inner = open_filesystem(path)
    return _info(filesystem, inner, path).type == fs.FileType.Directory


def read_bytes(path: str) -> bytes:
    """The whole content of a file; local or a URI.

    Raises:
        OSError: If it cannot be read.
        DataError: If the URI's scheme is unknown.
    """
    filesystem, inner = open_filesystem(path)
    with filesystem.open_input_stream(inner) as stream:
        return stream.read()


def join(path: str, name: str) -> str:
    """A path below a local folder or URI."""
    return posixpath.join(path, name) if "://" in path else str(Path(path) / name)


def _info(filesystem: fs.FileSystem, inner: str, path: str) -> Any:
    try:
        return filesystem.get_file_info(inner)
    except OSError as error:
        raise DataError(f"{path} cannot be reached: {error}", "check the address and the credentials") from None


def _walk(filesystem: fs.FileSystem, folder: str) -> list[str]:
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    return [info.path for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if _GLOB & set(part))
    return "/".join(parts[:fixed]) or "/"


def _hidden(below: str) -> bool:
    return any(part.startswith((".", "_")) for part in below.split("/") if part)


def _nearest(path: str) -> str:
    if "://" in path:
        return "check the address"
    wanted = Path(path)
    near = difflib.get_close_matches(wanted.name, [p.name for p in wanted.parent.glob("*")], n=1) if wanted.parent.is_dir() else []
    return f"did you mean {near[0]}?" if near else "check the path"
