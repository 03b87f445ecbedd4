"""Publishing a folder under a name that readers use meanwhile: they see the old version or the new one, whole."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def publishing(name: Path) -> Iterator[Path]:
    """Yield the path of a new version; when the block ends without an error, the link `name` is moved to it in one step.

    The version before is kept, so that a reader who has just resolved the link can finish; older ones are deleted.

    Args:
        name: The link, local. A folder of that name from elsewhere is kept as the version before.

    Yields:
        Where the new version is to be written, a folder that does not exist yet.
    """
    name.parent.mkdir(parents=True, exist_ok=True)
    version = name.with_name(f".{name.name}.{uuid.uuid4().hex[:12]}")
    try:
        yield version
    except BaseException:
        shutil.rmtree(version, ignore_errors=True)
        raise
    before = name.resolve() if name.is_symlink() else None
    if name.is_dir() and not name.is_symlink():
        before = name.with_name(f".{name.name}.{uuid.uuid4().hex[:12]}")
        name.rename(before)
    link = name.with_name(f".{name.name}.link-{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(version.name, target_is_directory=True)
    link.replace(name)
    # Exactly this name's: `shop.cn` may be published beside `shop`.
    own = re.compile(re.escape(f".{name.name}.") + "[0-9a-f]{12}")
    for old in name.parent.iterdir():
        if own.fullmatch(old.name) and old.is_dir() and not old.is_symlink() and old.resolve() not in (version.resolve(), before):
            shutil.rmtree(old, ignore_errors=True)


def read_published(name: Path, read: Callable[[Path], T]) -> T:
    """Read the version that a link names now; again when it was replaced, and then deleted, before the reader was done.

    Args:
        name: The link, or a plain folder.
        read: Given the version's own folder.
    """
    while True:
        version = name.resolve()
        try:
            return read(version)
        except Exception:
            if name.resolve() == version:
                raise
