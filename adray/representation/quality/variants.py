"""The judged creatives again with a modality taken away or shuffled, embedded by the same job."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adray.data.schema import IMAGE
from adray.representation.embedding.config import EmbeddingRunConfig
from adray.representation.embedding.job import embed_table
from adray.representation.encoders.base import Encoder
from adray.representation.quality.judged import Judged, vectors_of

Variant = Literal["image_only", "copy_only", "image_shuffled"]
VARIANTS: tuple[Variant, ...] = ("image_only", "copy_only", "image_shuffled")


def variant_rows(judged: Judged, variant: Variant, seed: int) -> pa.Table | None:
    """The creatives' rows, changed.

    Args:
        judged: The creatives.
        variant: `image_only` empties the copy, `copy_only` the picture, `image_shuffled` gives each another creative's picture.
        seed: Of the shuffling.

    Returns:
        The rows that still have content; None when no row has both picture and copy, so that nothing can be taken away
        (`image_only` is then the pictures alone), or nothing is left.
    """
    rows = judged.rows
    has_image = _given(rows, "image")
    has_copy = judged.copies >= 0
    if variant == "image_only":
        changed, keep = _set(rows, "copy", pa.nulls(rows.num_rows, pa.string())), has_image
    elif variant == "copy_only":
        changed, keep = _set(rows, "image", pa.nulls(rows.num_rows, IMAGE)), has_copy
    else:
        if not (has_image & has_copy).any():
            return None
        places = np.arange(rows.num_rows)
        pictured = np.flatnonzero(has_image)
        order = np.random.default_rng(seed).permutation(pictured)
        # Along a random ring no picture stays where it was.
        places[order] = np.roll(order, 1)
        changed, keep = _set(rows, "image", rows.column("image").take(pa.array(places))), has_image
    return changed.filter(pa.array(keep)) if keep.any() else None


def _given(rows: pa.Table, name: str) -> np.ndarray:
    if name not in rows.column_names:
        return np.zeros(rows.num_rows, bool)
    return np.array([value is not None and any(value.values()) for value in rows.column(name).to_pylist()])


def _set(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, values)
    return rows.append_column(name, values)


def variant_vectors(
    config: EmbeddingRunConfig, judged: Judged, folder: Path, encoder: tuple[Path, str, Encoder]
) -> dict[Variant, np.ndarray]:
    """Vectors of every variant, float32 `[n, dim]`, zeros where a creative has none; variants without any are absent.

    Args:
        config: The run's config.
        judged: The creatives.
        folder: Where the variants' tables and vectors are kept, so that judging again need not embed again.
        encoder: From `prepare_encoder`.
    """
    found: dict[Variant, np.ndarray] = {}
    lenient = config.model_copy(update={"data": config.data.model_copy(update={"quarantine_limit": 1.0})})
    for variant in VARIANTS:
        rows = variant_rows(judged, variant, config.seed)
        if rows is None:
            continue
        name = hashlib.sha256("\n".join([str(config.seed), *judged.creative_ids]).encode()).hexdigest()[:16]
        source = folder / variant / f"creatives-{name}.parquet"
        if not source.is_file():
            source.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, source.with_suffix(".partial"), row_group_size=1024)
            source.with_suffix(".partial").replace(source)
        done = embed_table(lenient, str(source), folder / variant, encoder)
        if done.kept:
            found[variant] = vectors_of(str(done.table), done.provenance, judged.creative_ids)
    return found
