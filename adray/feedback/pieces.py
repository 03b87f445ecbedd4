"""The sources of a run's annotated pictures: the main one and further ones, and to which part the rows of each belong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adray.data.adapters.rf1m import Rf1m
from adray.data.conform import target_schema
from adray.data.schema import ANNOTATIONS
from adray.data.sources import Source, open_source
from adray.data.storage import find_files, is_folder
from adray.feedback.config import AnnotationDataConfig

_VERSION = 3
Split = Literal["train", "holdout", "by_product"]


@dataclass(frozen=True)
class Piece:
    """A source of rows and where they belong.

    Attributes:
        split: `train`, `holdout`, or `by_product`: a share of the products is held out.
        source: The rows.
        path: What the user called it.
        name: Of the further source; empty for the main one.
    """

    split: Split
    source: Source | Rf1m
    path: str
    name: str = ""

    @property
    def parts(self) -> int:
        """How many pieces of it are read on their own."""
        return len(self.source.parts)

    @property
    def holdout(self) -> str:
        """The folder of its held-out rows within the run's tables."""
        return f"holdout-{self.name}" if self.name else "holdout"


def open_pieces(config: AnnotationDataConfig) -> list[Piece]:
    """Open the sources; only listings, labels and footers are read.

    Raises:
        DataError: If one is missing or not of the declared form.
    """
    if config.adapter == "rf1m":
        pieces = [Piece("by_product", Rf1m(config.path, config.rf1m), config.path)]
    else:
        pieces = _open(config.path, "by_product", "")
    for name, more in config.more.items():
        pieces += _open(more.path, more.split, name)
    return pieces


def _open(path: str, split: Split, name: str) -> list[Piece]:
    """A folder that is parted already keeps its parts, unless all of it is to go into one."""
    if is_folder(path):
        files = [file.rsplit("/", 1)[-1] for file in find_files(path, (".parquet",))[1]]
        if {"train.parquet", "holdout.parquet"} <= set(files):
            parts: Sequence[Split] = ("train", "holdout")
            return [Piece(p if split == "by_product" else split, open_source(f"{path}/{p}.parquet"), path, name) for p in parts]
    source = open_source(path)
    target_schema(source.schema, ANNOTATIONS, path)
    return [Piece(split, source, path, name)]


def fingerprint(config: AnnotationDataConfig, pieces: Sequence[Piece], maps_identity: str) -> str:
    """Hex digest of sources, settings and what computes the maps; equal input, equal tables."""
    settings = config.model_dump(mode="json", exclude={"quarantine_limit", "ingest", "reader", "lanes", "shuffle_rows"})
    stamps = [p.source.stamp if isinstance(p.source, Source) else p.source.stamp() for p in pieces]
    return hashlib.sha256(json.dumps([_VERSION, settings, stamps, maps_identity], sort_keys=True).encode()).hexdigest()
