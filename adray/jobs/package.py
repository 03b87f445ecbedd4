"""The project's own files as one archive: what a job runs from. What it is, what stays out of it, and how large it may be."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from adray.errors import ConfigError, ResourceError

LEFT_OUT = frozenset({".venv", "data", "runs", "tests", "venv", "wandb"})
"""Top-level folders that never travel, ignored by git or not."""
SECRET_FILES = (".env", ".env.*", ".netrc", "*.key", "*.pem", "auth_token")
"""Names of files that never travel: they hold keys."""
RAY_LIMIT_MIB = 100
"""What Ray's job server takes in one upload. (Its store would take 512 MiB.)"""
_SHOWN = 5
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """An archive that is ready to be uploaded.

    Attributes:
        path: The zip file.
        files: How many files it holds.
        bytes: Its size.
    """

    path: Path
    files: int
    bytes: int


def project_files(root: Path) -> list[str]:
    """The project's own files: those git tracks, and new ones that it does not ignore.

    Args:
        root: The project's folder.

    Returns:
        Paths relative to `root`, sorted.

    Raises:
        ConfigError: If `root` is no git checkout, so that its own files cannot be told from data.
        ResourceError: If git is not installed.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        raise ResourceError("git is not installed, so the project's own files cannot be told from data", "install git") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise ConfigError(f"git does not list the files of {root}: {said}", "submit from a git checkout (`git init` makes one)") from None
    names = {name for name in done.stdout.decode("utf-8", "surrogateescape").split("\0") if name}
    return sorted(name for name in names if _travels(root, name))


def _travels(root: Path, name: str) -> bool:
    path, parts = root / name, PurePosixPath(name).parts
    if parts[0] in LEFT_OUT or any(fnmatch(parts[-1], pattern) for pattern in SECRET_FILES):
        return False
    # A link out of the project leads to data or an environment; a file that git tracks may have been deleted.
    return path.is_file() and path.resolve().is_relative_to(root.resolve())


def code_hash(root: Path, files: list[str]) -> str:
    """Hash of the files' names and bytes."""
    total = hashlib.sha256()
    for name in files:
        total.update(name.encode("utf-8", "surrogateescape") + b"\0")
        total.update(hashlib.sha256((root / name).read_bytes()).digest())
    return total.hexdigest()


def write_package(root: Path, files: list[str], extra: Mapping[str, str], target: Path, limit: int) -> Package:
    """Write the archive, the same bytes whenever its files are the same, and refuse one that is too large.

    Args:
        root: The project's folder.
        files: Paths relative to it.
        extra: Further files, name -> text.
        target: The zip file to write.
        limit: Bytes it may have.

    Raises:
        ResourceError: If it is too large, naming the largest files.
    """
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            path = root / name
            info = _entry(name, 0o755 if os.access(path, os.X_OK) else 0o644)
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as sink:
                while block := source.read(2**20):
                    sink.write(block)
            sizes[name] = archive.getinfo(name).compress_size
            if target.stat().st_size > limit:
                # Whatever follows, it is too large; the rest still tells which files make it so.
                break
        for name, text in extra.items():
            archive.writestr(_entry(name, 0o644), text)
    total = target.stat().st_size
    if total >= limit:
        sizes |= {name: (root / name).stat().st_size for name in files if name not in sizes}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
        raise ResourceError(
            f"the project's files come to {human(sum(sizes.values()))} in a package, {human(limit)} are allowed; "
            f"largest: {', '.join(f'{name} {human(sizes[name])}' for name in largest)}",
            "name what is no code in .gitignore, and keep data in storage that the cluster reaches",
        )
    return Package(target, len(files) + len(extra), total)


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (0o100000 | mode) << 16
    return info


def human(size: float) -> str:
    """A size in bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
