"""The tables that a generation writes: verdicts, creatives, generated pictures, failures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adray.data.labels import LABELS
from adray.data.pictures import png_bytes
from adray.data.piecework.items import Item
from adray.data.piecework.parts import ItemResult, Parts
from adray.data.row_group_writer import RowGroupWriter
from adray.data.schema import CREATIVES, FAILURES, GENERATED, IMAGE, VERDICTS
from adray.generation.recurrent.rounds import Made, Refusals

_CREATIVES = pa.schema([*CREATIVES.required, *(CREATIVES.optional.field(name) for name in ("image", "copy", "source", "created_at"))])
_VERDICTS = pa.schema([*VERDICTS.required, *(VERDICTS.optional.field(name) for name in ("prompt", "seed", "inspector"))])
SCHEMAS = {
    "verdicts": _VERDICTS,
    "creatives": _CREATIVES,
    "generated": pa.schema([*GENERATED.required, *GENERATED.optional]),
    "failures": pa.schema([*FAILURES.required, *FAILURES.optional]),
}
"""Table -> its columns, in the order in which a run reports them."""
_GROUP_ROWS = 256


@dataclass(frozen=True)
class Outputs:
    """Where a run's tables go: a folder each, with one file per work item.

    Attributes:
        parts: By table; all share one quarantine and one record of what is done.
    """

    parts: dict[str, Parts]

    @classmethod
    def make(cls, folder: Path) -> Outputs:
        """The folders below a run's; made where they are not there."""
        return cls({name: Parts.make(folder, name) for name in SCHEMAS})

    @property
    def shared(self) -> Parts:
        """Where losses and records are."""
        return next(iter(self.parts.values()))

    def finished(self, items: Sequence[Item]) -> dict[str, ItemResult]:
        """Results of the items that are done; every table's unrecorded output is deleted."""
        found: dict[str, ItemResult] = {}
        for parts in self.parts.values():
            found = parts.finished(items)
        return found

    @contextmanager
    def writing(self, item: Item) -> Any:
        """A writer for each table; their files appear, each whole, when the block ends well.

        Yields:
            Table -> its `RowGroupWriter`.
        """
        with ExitStack() as stack:
            writers: dict[str, RowGroupWriter] = {}
            for name, parts in self.parts.items():
                writers[name] = stack.enter_context(parts.writing(item, SCHEMAS[name], _GROUP_ROWS))
            yield writers

    def ensure_readable(self) -> None:
        """Leave an empty table where an output has no rows."""
        for name, parts in self.parts.items():
            if not any(parts.output.glob("*.parquet")):
                pq.write_table(SCHEMAS[name].empty_table(), parts.output / "none.parquet")


def verdict_rows(made: Sequence[Made], inspector: str) -> pa.Table:
    """Rows of table `verdicts`, of pictures that were judged."""
    return _rows(
        "verdicts",
        image_id=[one.image_id for one in made],
        sku_id=[one.wanted.sku_id for one in made],
        label=[one.label for one in made],
        accepted=[one.accepted for one in made],
        attempt=[one.attempt for one in made],
        probabilities=[list(zip(LABELS, _plain(one.probabilities), strict=True)) for one in made],
        prompt=[one.drawn.prompt for one in made],
        seed=[one.drawn.seed for one in made],
        inspector=[inspector] * len(made),
    )


def creative_rows(made: Sequence[Made], created_at: datetime) -> pa.Table:
    """Rows of table `creatives`, of accepted pictures."""
    return _rows(
        "creatives",
        creative_id=[one.image_id for one in made],
        sku_id=[one.wanted.sku_id for one in made],
        image=[png_cell(one.picture) for one in made],
        copy=[one.wanted.title for one in made],
        source=["generated"] * len(made),
        created_at=[created_at] * len(made),
    )


def generated_rows(made: Sequence[Made]) -> pa.Table:
    """Rows of table `generated`."""
    return _rows(
        "generated",
        annotation_id=[one.image_id for one in made],
        sku_id=[one.wanted.sku_id for one in made],
        image=[png_cell(one.picture) for one in made],
        cutout=[png_cell(one.cutout) for one in made],
        copy=[one.wanted.title for one in made],
        prompt=[one.drawn.prompt for one in made],
        negative_prompt=[one.drawn.negative for one in made],
        request_id=[one.wanted.id for one in made],
        attempt=[one.attempt for one in made],
        seed=[one.drawn.seed for one in made],
        accepted=[one.accepted for one in made],
    )


def failure_rows(failed: Sequence[Refusals], attempts: int) -> pa.Table:
    """Rows of table `failures`."""
    return _rows(
        "failures",
        request_id=[one.best.wanted.id for one in failed],
        sku_id=[one.best.wanted.sku_id for one in failed],
        label=[one.label for one in failed],
        attempts=[attempts] * len(failed),
        image_id=[one.best.image_id for one in failed],
        available=[one.best.available for one in failed],
    )


def png_cell(pixels: np.ndarray) -> dict[str, Any]:
    """A cell of an image column: lossless, so that the product's pixels survive."""
    return {"bytes": png_bytes(pixels), "path": None}


def _plain(probabilities: np.ndarray | None) -> list[float]:
    if probabilities is None:
        raise ValueError("a picture that was not judged has no verdict")
    return probabilities.tolist()


def _rows(table: str, **columns: list[Any]) -> pa.Table:
    schema = SCHEMAS[table]
    arrays = [pa.array(columns[field.name], IMAGE if field.type.equals(IMAGE) else field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
