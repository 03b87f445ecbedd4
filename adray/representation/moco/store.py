"""Pictures decoded once: squares in a memory-mapped file, so that every further epoch costs no decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.files import replacing_folder, write_json
from adray.representation.creatives import Creatives
from adray.representation.encoders.towers import square
from adray.representation.picture_folder import creatives_table, labels_of
from adray.representation.reading import creatives_from_arrow

_CHUNK = 64
_META = "store.json"


@dataclass(frozen=True)
class PictureStore:
    """n pictures in a folder of arrays.

    Attributes:
        pictures: uint8 `[n, 3, side, side]`, memory-mapped.
        sizes: int64 `[n, 2]`, height and width before.
        ids: int64 `[n]`, hashed creative ids.
        skus: int64 `[n]`, hashed SKU ids.
        labels: int64 `[n]`, indices into `names`; -1 where no labels were asked for.
        names: The labels, sorted.
        lost: (creative id, reason) of each picture that could not be used.
    """

    pictures: np.ndarray
    sizes: np.ndarray
    ids: np.ndarray
    skus: np.ndarray
    labels: np.ndarray
    names: list[str]
    lost: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def load(folder: str | Path) -> PictureStore:
        """Open a store that `build_store` wrote."""
        folder = Path(folder)
        names = ("pictures", "sizes", "ids", "skus", "labels")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        return PictureStore(**arrays, names=meta["names"], lost=[(key, reason) for key, reason in meta["lost"]])


def build_store(path: str, side: int, folder: str | Path, *, label: str | None, quarantine_limit: float = 0.01) -> PictureStore:
    """Decode all pictures of a table once; a store made before from the same table is used again.

    Args:
        path: A creatives table or a folder of pictures.
        side: Side of the squares, in pixels.
        folder: Where the store goes; it appears when it is complete.
        label: Column with the labels; None leaves labels out.
        quarantine_limit: Largest share of pictures that may be unusable.

    Raises:
        DataError: If there are no usable pictures, or too many are not.
    """
    folder = Path(folder)
    table = creatives_table(path)
    key = hashlib.sha256(json.dumps([path, side, label, _fingerprint(table)]).encode()).hexdigest()
    meta = folder / _META
    if meta.is_file() and json.loads(meta.read_text(encoding="utf-8"))["key"] == key:
        return PictureStore.load(folder)
    creatives, squares, sizes, lost, kept = _decode(table, side)
    if not len(kept) or len(lost) > quarantine_limit * table.num_rows:
        reason = lost[0][1] if lost else "it is empty"
        raise DataError(f"{len(lost)} of {table.num_rows} pictures of {path} cannot be used, the first: {reason}", "look at the table")
    names, labels = [], np.full(len(kept), -1, np.int64)
    if label is not None:
        texts = labels_of(table.take(pa.array(kept)), label, path)
        names = sorted(set(texts))
        labels = np.searchsorted(np.array(names), np.array(texts)).astype(np.int64)
    with replacing_folder(folder) as partial:
        arrays = {
            "pictures": squares,
            "sizes": sizes,
            "ids": hash_strings(list(creatives.creative_ids)),
            "skus": hash_strings(list(creatives.sku_ids)),
            "labels": labels,
        }
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        write_json(partial / _META, {"key": key, "names": names, "lost": lost})
    return PictureStore.load(folder)


def _fingerprint(table: pa.Table) -> str:
    """Of what names the rows; pictures given by path are taken not to change under their name."""
    digest = hashlib.sha256()
    for name in table.column_names:
        for value in table.column(name).to_pylist():
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _decode(table: pa.Table, side: int) -> tuple[Creatives, np.ndarray, np.ndarray, list[tuple[str, str]], list[int]]:
    ids = table.column("creative_id").to_pylist() if "creative_id" in table.column_names else []
    starts = range(0, table.num_rows, _CHUNK)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda start: _decode_chunk(table.slice(start, _CHUNK), side), starts))
    lost = [(ids[start + row], reason) for start, (_, _, _, bad) in zip(starts, done, strict=True) for row, reason in bad]
    bad_rows = {start + row for start, (_, _, _, bad) in zip(starts, done, strict=True) for row, _ in bad}
    creatives = Creatives(
        [i for c, *_ in done for i in c.creative_ids],
        [s for c, *_ in done for s in c.sku_ids],
        [None for c, *_ in done for _ in c.pictures],
        [t for c, *_ in done for t in c.copies],
    )
    squares = np.concatenate([s for _, s, _, _ in done]) if done else np.zeros((0, 3, side, side), np.uint8)
    sizes = np.concatenate([s for _, _, s, _ in done]) if done else np.zeros((0, 2), np.int64)
    return creatives, squares, sizes, lost, [row for row in range(table.num_rows) if row not in bad_rows]


def _decode_chunk(rows: pa.Table, side: int) -> tuple[Creatives, np.ndarray, np.ndarray, list[tuple[int, str]]]:
    creatives, bad = creatives_from_arrow(rows, at_least=side)
    missing = [i for i, picture in enumerate(creatives.pictures) if picture is None]
    if missing:
        # A usable creative without a picture, which has nothing to make views of here.
        good = [row for row in range(rows.num_rows) if row not in {r for r, _ in bad}]
        lost = {good[i] for i in missing}
        bad = sorted([*bad, *((row, "no picture") for row in lost)])
        keep = [i for i in range(len(creatives)) if i not in set(missing)]
        creatives = _taken(creatives, keep)
    squares = [square(picture, side) for picture in creatives.pictures if picture is not None]
    sizes = [picture.shape[:2] for picture in creatives.pictures if picture is not None]
    pixels = np.stack(squares) if squares else np.zeros((0, 3, side, side), np.uint8)
    return creatives, pixels, np.array(sizes, np.int64).reshape(-1, 2), bad


def _taken(creatives: Creatives, rows: list[int]) -> Creatives:
    pick: Callable[[object], list] = lambda column: [column[i] for i in rows]  # type: ignore[index]  # noqa: E731
    return Creatives(pick(creatives.creative_ids), pick(creatives.sku_ids), pick(creatives.pictures), pick(creatives.copies))
