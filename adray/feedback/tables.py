"""From annotated pictures of any source to the run's own tables: checked, parted by product, with depth and saliency as columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adray.data.adapters.rf1m import Rf1m
from adray.data.conform import target_schema
from adray.data.hashing import hash_shares
from adray.data.images import ImageRowError
from adray.data.labels import LABELS
from adray.data.pictures import cutout_problem, image_pixels, png_bytes
from adray.data.quarantine import FOLDER, Lost, check_limit, ensure_readable, quarantine_rows
from adray.data.ray_tasks import stream_tasks
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import ANNOTATIONS, IMAGE, QUARANTINE
from adray.data.sources import read_part
from adray.data.validate import Rules, split_rows
from adray.errors import DataError
from adray.feedback.config import AnnotationDataConfig, MapsConfig
from adray.feedback.inputs import as_tensor
from adray.feedback.maps import Maps
from adray.feedback.pieces import Piece, fingerprint, open_pieces
from adray.files import replacing_folder, write_json

TABLES_FILE = "annotations.json"
_MAP_ROWS = 64
_COUNTS = ("train", "holdout", "lost", *LABELS)
_STATS = pa.schema([*((name, pa.int64()) for name in (*_COUNTS, "piece")), ("first", pa.string())])


@dataclass(frozen=True)
class AnnotationTables:
    """A run's tables.

    Attributes:
        train: Rows of the training products, of all sources.
        holdout: Rows of the others, of the main source.
        quarantine: Rows that could not be used, with their reasons.
        rows: Rows of `train`, of `holdout`, and held-out ones of each further source under its name.
        labels: Training rows of each label.
        quarantined: Rows in the quarantine.
        fingerprint: Hex digest of sources and settings; equal input, equal tables.
        more: Name of a further source -> its held-out rows; without those that only train.
    """

    train: str
    holdout: str
    quarantine: str
    rows: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    fingerprint: str = ""
    more: dict[str, str] = field(default_factory=dict)

    def lineage(self) -> dict[str, dict[str, object]]:
        """For an artifact: path, rows and fingerprint of each table."""
        pairs = (("train", self.train), ("holdout", self.holdout), *self.more.items())
        return {name: {"path": path, "rows": self.rows.get(name), "fingerprint": self.fingerprint} for name, path in pairs}


def prepare_annotations(config: AnnotationDataConfig, maps: MapsConfig, folder: str | Path, *, with_maps: bool = True) -> AnnotationTables:
    """Make a run's tables; when `folder` holds those of these sources and settings, they are used again.

    Args:
        config: The sources.
        maps: What computes depth and saliency.
        folder: Where the tables go.
        with_maps: Compute the maps; a model that reads neither needs none.

    Raises:
        DataError: If a source cannot be read, is not of the declared form, or has more unusable rows than allowed.
    """
    folder = Path(folder).absolute()
    pieces = open_pieces(config)
    identity = Maps(maps).identity if with_maps else ""
    mark = fingerprint(config, pieces, identity)
    if (folder / TABLES_FILE).is_file():
        known = AnnotationTables(**json.loads((folder / TABLES_FILE).read_text(encoding="utf-8")))
        if known.fingerprint == mark:
            return known
    items = [{"piece": p, "part": i, "name": f"part-{p}-{i:05d}"} for p, piece in enumerate(pieces) for i in range(piece.parts)]
    with replacing_folder(folder) as partial:
        job = _Job(config, maps, pieces, identity, str(partial))
        done = list(stream_tasks(items, job) if config.ingest == "ray" else (t for item in items for t in job(item)))
        listed = [row for piece in pieces if isinstance(piece.source, Rf1m) for row in piece.source.lost]
        if listed:
            with RowGroupWriter(partial / FOLDER / "listed.parquet", QUARANTINE.required, 1 << 16) as writer:
                writer.write(quarantine_rows(ANNOTATIONS.name, "listing", listed))
        sums = pa.concat_tables(done)
        rows = _row_counts(sums, pieces)
        lost = int(np.sum(sums.column("lost").to_numpy())) + len(listed)
        firsts = [f for f in sums.column("first").to_pylist() if f] + [f"{name}: {reason}" for name, reason in listed]
        counted = Lost(ANNOTATIONS.name, sum(rows.values()), lost, firsts[0] if firsts else "")
        check_limit(counted, config.quarantine_limit, partial / FOLDER, folder.with_name(f"{folder.name}.{FOLDER}"))
        ensure_readable(partial / FOLDER)
        if empty := [name for name, count in rows.items() if not count]:
            problem = f"{config.path}: {rows['train']} training and {rows['holdout']} held-out rows"
            if empty[0] not in ("train", "holdout"):
                problem = f"data.more.{empty[0]}.path {config.more[empty[0]].path}: 0 held-out rows"
            raise DataError(problem, "give more products, or change data.holdout")
        labels = {name: int(np.sum(sums.column(name).to_numpy())) for name in LABELS}
        more = {piece.name: str(folder / piece.holdout) for piece in pieces if piece.name in rows}
        train, holdout, quarantine = (str(folder / name) for name in ("train", "holdout", FOLDER))
        tables = AnnotationTables(train, holdout, quarantine, rows, labels, lost, mark, more)
        write_json(partial / TABLES_FILE, asdict(tables))
    return tables


def _row_counts(sums: pa.Table, pieces: list[Piece]) -> dict[str, int]:
    """As `AnnotationTables.rows`."""
    rows = {"train": int(np.sum(sums.column("train").to_numpy())), "holdout": 0}
    rows |= {piece.name: 0 for piece in pieces if piece.name and piece.split != "train"}
    for piece, count in zip(sums.column("piece").to_pylist(), sums.column("holdout").to_pylist(), strict=True):
        if pieces[piece].split != "train":
            rows[pieces[piece].name or "holdout"] += count
    return rows


class _Job:
    """Makes the tables of one part of a source; called in this process or in Ray tasks."""

    def __init__(self, config: AnnotationDataConfig, maps: MapsConfig, pieces: list[Piece], identity: str, folder: str) -> None:
        self._config, self._maps, self._pieces, self._identity, self._folder = config, maps, pieces, identity, Path(folder)

    def __call__(self, item: dict[str, Any]) -> Iterator[pa.Table]:
        """Write a part's rows and yield one row of counts."""
        piece, name = self._pieces[item["piece"]], item["name"]
        maps = Maps(self._maps).eval() if self._identity else None
        counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        first = ""
        schema = _written_schema(self._identity != "")
        out = {
            split: RowGroupWriter(self._folder / place / f"{name}.parquet", schema, self._config.row_group_rows)
            for split, place in (("train", "train"), ("holdout", piece.holdout))
        }
        bad = RowGroupWriter(self._folder / FOLDER / f"{name}.parquet", QUARANTINE.required, 1 << 16)
        with out["train"], out["holdout"], bad:
            for rows, lost in _rows_of(piece, item["part"]):
                good, broken = self._usable(rows, lost, piece.path)
                bad.write(broken)
                counts["lost"] += broken.num_rows
                if broken.num_rows and not first:
                    first = f"{broken['key'][0].as_py()}: {broken['reason'][0].as_py()}"
                for start in range(0, good.num_rows, _MAP_ROWS):
                    chunk = _with_maps(good.slice(start, _MAP_ROWS), maps, self._identity).select(schema.names).cast(schema)
                    for split, part in self._split(chunk, piece.split):
                        out[split].write(part)
                        counts[split] += part.num_rows
                        if split == "train":
                            for label in part.column("label").to_pylist():
                                counts[label] += 1
        yield (
            pa.table({**{n: [v] for n, v in counts.items()}, "piece": [item["piece"]], "first": [first]}).select(_STATS.names).cast(_STATS)
        )

    def _usable(self, rows: pa.Table, lost: list[tuple[str, str]], path: str) -> tuple[pa.Table, pa.Table]:
        kept = [i for i, label in enumerate(rows.column("label").to_pylist()) if label not in self._config.drop_labels]
        rows = rows.take(pa.array(kept, pa.int64()))
        target = target_schema(rows.schema, ANNOTATIONS, path)
        good, broken = split_rows(rows, Rules(ANNOTATIONS, target), path)
        reasons = {i: reason for i, row in enumerate(good.to_pylist()) if (reason := row_problem(row))}
        keep = [i for i in range(good.num_rows) if i not in reasons]
        ids = good.column("annotation_id").to_pylist()
        named = [*lost, *((ids[i], reason) for i, reason in reasons.items())]
        return good.take(pa.array(keep, pa.int64())), pa.concat_tables([broken, quarantine_rows(ANNOTATIONS.name, "rules", named)])

    def _split(self, rows: pa.Table, split: str) -> Iterator[tuple[str, pa.Table]]:
        if split != "by_product":
            yield split, rows
            return
        held = hash_shares(rows.column("sku_id")) < self._config.holdout
        yield "train", rows.filter(pa.array(~held))
        yield "holdout", rows.filter(pa.array(held))


def row_problem(row: dict[str, Any]) -> str:
    """Why an annotated picture cannot be used; empty where it can."""
    if row["label"] not in LABELS:
        return f"label {row['label']!r} is unknown; labels are {', '.join(LABELS)}"
    if row.get("cutout") is None:
        return ""
    try:
        cutout = image_pixels(row["cutout"])
    except (ImageRowError, DataError, OSError) as error:
        return f"cutout: {error}"
    problem = cutout_problem(cutout)
    return f"cutout: {problem}" if problem else ""


def _rows_of(piece: Piece, part: int) -> Iterator[tuple[pa.Table, list[tuple[str, str]]]]:
    if isinstance(piece.source, Rf1m):
        yield from piece.source.read_part(part)
        return
    broken: list[tuple[str, str]] = []
    for rows in read_part(piece.source, piece.source.parts[part], lambda key, reason: broken.append((key, reason))):
        yield rows, list(broken)
        broken.clear()


def _written_schema(with_maps: bool) -> pa.Schema:
    names = ["cutout", "copy", "prompt", *(["depth", "saliency", "maps"] if with_maps else [])]
    return pa.schema([*ANNOTATIONS.required, *(ANNOTATIONS.optional.field(name) for name in names)])


def _with_maps(rows: pa.Table, maps: Maps | None, identity: str) -> pa.Table:
    """Add null cut-outs, copy and prompts where there are none, and the maps, unless the rows have them from the same networks."""
    for name, kind in (("cutout", IMAGE), ("copy", pa.string()), ("prompt", pa.string())):
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, kind))
    if maps is None or not rows.num_rows:
        missing = [n for n in ("depth", "saliency", "maps") if n not in rows.column_names]
        for name in missing:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, ANNOTATIONS.optional.field(name).type))
        return rows
    if "maps" in rows.column_names and set(rows.column("maps").to_pylist()) == {identity}:
        return rows
    depth, saliency = compute_maps([image_pixels(image) for image in rows.column("image").to_pylist()], maps)
    rows = rows.select([name for name in rows.column_names if name not in ("depth", "saliency", "maps")])
    for name, files in (("depth", depth), ("saliency", saliency)):
        rows = rows.append_column(name, pa.array([{"bytes": content, "path": None} for content in files], IMAGE))
    return rows.append_column("maps", pa.array([identity] * rows.num_rows))


@torch.no_grad()
def compute_maps(pictures: list[np.ndarray], maps: Maps) -> tuple[list[bytes], list[bytes]]:
    """Depth and saliency of decoded pictures, uint8 `[height, width, 3]` each, as grey PNG files."""
    found: dict[int, tuple[bytes, bytes]] = {}
    shapes: dict[tuple[int, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        shapes.setdefault(picture.shape[:2], []).append(row)
    for rows in shapes.values():
        batch = torch.cat([as_tensor(pictures[row][..., :3]) for row in rows])
        both = [(255.0 * m[:, 0]).round().byte().numpy() for m in maps(batch)]
        for place, row in enumerate(rows):
            found[row] = (png_bytes(both[0][place]), png_bytes(both[1][place]))
    return [found[row][0] for row in range(len(pictures))], [found[row][1] for row in range(len(pictures))]
