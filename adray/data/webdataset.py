"""WebDataset tars: files of one basename, one after the other, are one sample."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, BinaryIO

import pyarrow as pa

from adray.data.schema import CREATIVES
from adray.errors import DataError

TAR_SCHEMA = pa.schema([*CREATIVES.required, *(CREATIVES.optional.field(n) for n in ("image", "copy", "elements", "source"))])
"""Columns read from tars: the picture, `.txt` as copy, and from `.json` any of sku_id, creative_id, copy, elements, source."""

_PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
_MAX_MEMBER_BYTES = 256 * 2**20
_ROWS = 64


def read_tar(stream: BinaryIO, name: str, on_bad: Callable[[str, str], None]) -> Iterator[pa.Table]:
    """Creatives of one tar, read as a stream; nothing is unpacked to disk.

    The sample's key is its creative id, unless its `.json` gives another; the folder within the tar is its SKU, unless
    the `.json` names one; a sample in no folder is its own SKU.

    Args:
        stream: The tar's bytes, plain or compressed.
        name: What to call it in errors.
        on_bad: Told the key and reason of samples that cannot be read.

    Raises:
        DataError: If it is no tar or ends too early.
    """
    rows: list[dict[str, Any]] = []
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as tar:
            for key, members in groupby(_members(tar, on_bad), key=lambda member: member[0]):
                try:
                    rows.append(_sample(key, {ending: content for _, ending, content in members}))
                except ValueError as error:
                    on_bad(key, str(error))
                if len(rows) == _ROWS:
                    yield pa.Table.from_pylist(rows, schema=TAR_SCHEMA)
                    rows = []
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{name} is not a readable tar: {error}", "make it again or take it out") from None
    if rows:
        yield pa.Table.from_pylist(rows, schema=TAR_SCHEMA)


def _members(tar: tarfile.TarFile, on_bad: Callable[[str, str], None]) -> Iterator[tuple[str, str, bytes]]:
    for member in tar:
        if not member.isfile():
            continue
        folder, _, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if member.size > _MAX_MEMBER_BYTES:
            on_bad(key, f"{member.name} has {member.size} bytes, more than {_MAX_MEMBER_BYTES}")
            continue
        file = tar.extractfile(member)
        if file is not None:
            yield key.removeprefix("./"), ending.lower(), file.read()


def _sample(key: str, files: dict[str, bytes]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if "json" in files:
        try:
            described = json.loads(files["json"])
        except ValueError as error:
            raise ValueError(f"its .json is not JSON: {error}") from None
        if not isinstance(described, dict):
            raise ValueError("its .json is not an object")
    picture = next((content for ending, content in files.items() if ending in _PICTURES), None)
    copy = files["txt"].decode("utf-8", errors="replace").strip() if "txt" in files else described.get("copy")
    elements = described.get("elements")
    if elements is not None and not isinstance(elements, dict):
        raise ValueError("elements in its .json is not an object")
    return {
        "creative_id": str(described.get("creative_id", key)),
        "sku_id": str(described.get("sku_id", key.rpartition("/")[0] or key)),
        "image": None if picture is None else {"bytes": picture, "path": None},
        "copy": None if copy is None else str(copy),
        "elements": None if elements is None else [(slot, str(element)) for slot, element in elements.items()],
        "source": described.get("source"),
    }
