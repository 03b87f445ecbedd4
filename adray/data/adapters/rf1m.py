"""`rf1m`: the released layout of RF1M (Du et al., ECCV 2024), as rows of table `annotations`.

The release has 30 archives of generated pictures, one `label.txt` with six labels, and for a part of the pictures an RGBA picture
of the product under the same file name. It has no titles, depth or saliency maps. How a line of `label.txt` is written is not
published: here a line is a file name, white space or a comma, and a label; anything else is an error that names the line.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, field_validator

from adray.config import Config
from adray.data.labels import RELEASED_LABELS
from adray.data.schema import IMAGE
from adray.data.sources import PICTURE_SUFFIXES
from adray.errors import DataError

_LINE = re.compile(r"^(?P<name>.+?)(?:\s*,\s*|\s+)(?P<label>[^\s,]+)$")
_ARCHIVES = (".zip", ".tar")
_ROWS = 256

SCHEMA = pa.schema(
    [
        ("annotation_id", pa.string()),
        ("sku_id", pa.string()),
        ("image", IMAGE),
        ("cutout", IMAGE),
        ("copy", pa.string()),
        ("label", pa.string()),
    ]
)
"""What the adapter's rows hold; `cutout` and `copy` are null where the release has none."""


class Rf1mConfig(Config):
    """Where things are in a copy of the release. Paths are relative to `data.path`."""

    pictures: str = "images"
    """Folder of the archives (`.zip`, `.tar`) of generated pictures, or of the pictures themselves."""
    cutouts: str | None = "cutouts"
    """Folder of the products' RGBA pictures or their archives; null: there are none."""
    labels: str = "label.txt"
    """The labels."""
    titles: str | None = None
    """Your own titles: lines of file name, tab, title. The release has none."""
    label_map: dict[str, str] = Field(default={str(i + 1): label for i, label in enumerate(RELEASED_LABELS)})
    """Label as written -> label. The README numbers them 1 to 6."""
    sku_pattern: str = r"^(.*)$"
    """Its first group, found in a picture's name without ending, is the product's id. By default each picture is its own product."""
    without_cutout: Literal["keep", "drop"] = "drop"
    """What becomes of pictures whose product picture is not released."""

    @field_validator("label_map")
    @classmethod
    def _known_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for written, label in value.items():
            if label not in RELEASED_LABELS:
                raise ValueError(f"label_map maps {written!r} to {label!r}; labels are {', '.join(RELEASED_LABELS)}")
        return value

    @field_validator("sku_pattern")
    @classmethod
    def _has_a_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"sku_pattern {value!r} is no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"sku_pattern {value!r} has {groups} groups; it must have one")
        return value


@dataclass(frozen=True)
class Place:
    """Where a picture lies: a file, or a member of an archive."""

    file: Path
    member: str | None = None

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            OSError: If it cannot be read.
        """
        if self.member is None:
            return self.file.read_bytes()
        try:
            if self.file.suffix == ".zip":
                with zipfile.ZipFile(self.file) as archive:
                    return archive.read(self.member)
            with tarfile.open(self.file) as archive:
                stream = archive.extractfile(self.member)
                return b"" if stream is None else stream.read()
        except (zipfile.BadZipFile, tarfile.TarError, KeyError, EOFError) as error:
            raise OSError(f"{self.member} in {self.file}: {error}") from None


class Rf1m:
    """An opened copy of the release: its labels are read, its archives listed.

    Args:
        root: `data.path`.
        config: Where things are.

    Attributes:
        parts: Archives, or one folder of pictures, that are read each on its own.
        lost: (picture, reason) of labelled names without a picture and of pictures without a label.

    Raises:
        DataError: If a file is missing, a line or label is not understood, a name is labelled twice differently, or a picture
            lies in two archives.
    """

    def __init__(self, root: str, config: Rf1mConfig) -> None:
        self.config = config
        self._root = Path(root)
        self._labels = self._read_labels(self._root / config.labels)
        self._titles = {} if config.titles is None else _read_titles(self._root / config.titles)
        self._pictures = _listed(self._root / config.pictures)
        self._cutouts = {} if config.cutouts is None else _listed(self._root / config.cutouts)
        self._sku = re.compile(config.sku_pattern)
        unlabelled = [(name, "it has no label") for name in self._pictures if name not in self._labels]
        self.lost = [(name, "labelled, but there is no such picture") for name in self._labels if name not in self._pictures] + unlabelled
        self.parts: list[Path] = sorted({place.file if place.member else place.file.parent for place in self._pictures.values()})

    def stamp(self) -> list[tuple[str, int, int]]:
        """(path, bytes, modification time in ns) of every file that is read."""
        places = [*self._pictures.values(), *self._cutouts.values()]
        named = [self._root / name for name in (self.config.labels, self.config.titles) if name is not None]
        files = sorted({place.file for place in places} | set(named))
        return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]

    def _read_labels(self, path: Path) -> dict[str, str]:
        labels: dict[str, str] = {}
        for number, line in _lines(path):
            found = _LINE.match(line)
            if found is None:
                raise DataError(f"{path} line {number} is {line[:60]!r}, not a file name and a label", "mend the line")
            label = self.config.label_map.get(found["label"])
            if label is None:
                known = ", ".join(self.config.label_map)
                raise DataError(f"{path} line {number}: label {found['label']!r} is unknown", f"add it to rf1m.label_map; it has {known}")
            if labels.setdefault(_key(found["name"]), label) != label:
                raise DataError(f"{path} line {number}: {found['name']!r} had another label before", "keep one of the lines")
        return labels

    def read_part(self, part: int) -> Iterator[tuple[pa.Table, list[tuple[str, str]]]]:
        """Rows of one part with their pictures' bytes, a few hundred at a time, and (picture, reason) of those that are left out.

        Args:
            part: Index into `parts`.
        """
        where = self.parts[part]
        names = sorted(n for n, p in self._pictures.items() if n in self._labels and (p.file if p.member else p.file.parent) == where)
        for start in range(0, len(names), _ROWS):
            rows, lost = [], []
            for name in names[start : start + _ROWS]:
                try:
                    row = self._row(name)
                except OSError as error:
                    lost.append((name, f"it cannot be read: {error}"))
                    continue
                if row is None:
                    lost.append((name, f"rf1m.sku_pattern {self.config.sku_pattern!r} does not match its name"))
                elif row["cutout"] is not None or self.config.without_cutout == "keep":
                    rows.append(row)
            yield pa.Table.from_pylist(rows, schema=SCHEMA), lost

    def _row(self, name: str) -> dict[str, object] | None:
        sku = self._sku.search(name)
        if sku is None:
            return None
        cutout = self._cutouts.get(name)
        return {
            "annotation_id": name,
            "sku_id": sku.group(1),
            "image": {"bytes": self._pictures[name].read(), "path": None},
            "cutout": None if cutout is None else {"bytes": cutout.read(), "path": None},
            "copy": self._titles.get(name),
            "label": self._labels[name],
        }


def _key(name: str) -> str:
    """A picture's name without folder and ending: a JPEG's cut-out is a PNG."""
    base = name.strip().rsplit("/", 1)[-1]
    stem, dot, ending = base.rpartition(".")
    return stem if dot and f".{ending.lower()}" in PICTURE_SUFFIXES else base


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check data.path and data.rf1m") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _read_titles(path: Path) -> dict[str, str]:
    titles = {}
    for number, line in _lines(path):
        name, tab, title = line.partition("\t")
        if not tab:
            raise DataError(f"{path} line {number} is {line[:60]!r}, not a file name, a tab and a title", "mend the line")
        titles[_key(name)] = title.strip()
    return titles


def _listed(folder: Path) -> dict[str, Place]:
    """Name -> place of every picture below a folder and in its archives."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", "check data.path, data.rf1m.pictures and data.rf1m.cutouts")
    found: dict[str, Place] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _ARCHIVES:
            places = [Place(path, member) for member in _members(path)]
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            places = [Place(path)]
        else:
            continue
        for place in places:
            key = _key(place.member or path.name)
            if key in found:
                raise DataError(f"picture {key!r} is in {found[key].file} and in {path}", "keep one of them")
            found[key] = place
    if not found:
        raise DataError(f"{folder} holds no pictures and no {', '.join(_ARCHIVES)} with pictures", "check data.rf1m")
    return found


def _members(path: Path) -> list[str]:
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        else:
            with tarfile.open(path) as archive:
                names = [member.name for member in archive if member.isfile()]
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path} is no readable archive: {error}", "download it again") from None
    return [name for name in names if name.lower().endswith(PICTURE_SUFFIXES) and not name.rsplit("/", 1)[-1].startswith("._")]
