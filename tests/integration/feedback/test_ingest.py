"""Annotated pictures through Ray Data tasks: the same tables as in this process, from worlds and from the released layout."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from adray.data.adapters.rf1m import Rf1mConfig
from adray.errors import DataError
from adray.feedback.config import AnnotationDataConfig, MapsConfig
from adray.feedback.tables import prepare_annotations
from adray.simulation.annotations import simulate_annotations
from adray.simulation.annotations_config import AnnotationsConfig


def test_ray_tasks_and_this_process_make_the_same_tables(ray_cluster, tmp_path):
    simulate_annotations(AnnotationsConfig(products=12, pictures=40, holdout_pictures=20, size=32), 0, tmp_path / "world")
    made = {}
    for how in ("inline", "ray"):
        config = AnnotationDataConfig(path=str(tmp_path / "world"), ingest=how)
        made[how] = prepare_annotations(config, MapsConfig(), tmp_path / how)
    assert made["inline"].fingerprint == made["ray"].fingerprint
    for part in ("train", "holdout"):
        a, b = (pq.read_table(getattr(made[how], part)) for how in ("inline", "ray"))
        assert a.equals(b)


def _png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_the_released_layout_becomes_tables(ray_cluster, tmp_path):
    """Six labels become five, maps are computed, titles stay empty, and what cannot be used is named."""
    release = tmp_path / "rf1m"
    (release / "images").mkdir(parents=True)
    (release / "cutouts").mkdir()
    rng = np.random.default_rng(0)
    names = [f"{i:03d}" for i in range(40)]
    for part in range(2):
        with zipfile.ZipFile(release / "images" / f"part_{part}.zip", "w") as archive:
            for name in names[part::2]:
                archive.writestr(f"{name}.png", _png(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)))
    with zipfile.ZipFile(release / "cutouts" / "products.zip", "w") as archive:
        for i, name in enumerate(names):
            pixels = np.full((24, 24, 4), 255, np.uint8)
            pixels[..., 3] = 0 if i == 4 else 255
            archive.writestr(f"{name}.png", _png(pixels[..., :3] if i == 3 else pixels))
    (release / "label.txt").write_text("\n".join(f"{name}.png {i % 6 + 1}" for i, name in enumerate(names)) + "\nghost.png 1\n")
    config = AnnotationDataConfig(path=str(release), adapter="rf1m", rf1m=Rf1mConfig(), holdout=0.3, quarantine_limit=0.1)
    tables = prepare_annotations(config, MapsConfig(), tmp_path / "tables")
    # 7 of 40 are "unsuitable" (label 2) and dropped; two cut-outs are unusable.
    assert sum(tables.rows.values()) == 40 - 7 - 2
    assert tables.quarantined == 3
    lost = {row["key"]: row["reason"] for row in pq.read_table(tables.quarantine).to_pylist()}
    assert set(lost) == {"003", "004", "ghost"}
    rows = pq.read_table(tables.train)
    assert set(rows["label"].to_pylist()) <= {"available", "space_mismatch", "size_mismatch", "indistinctiveness", "shape_hallucination"}
    assert rows["copy"].null_count == rows.num_rows
    assert rows["depth"].null_count == 0
    with pytest.raises(DataError, match="limit 1.00%"):
        prepare_annotations(config.model_copy(update={"quarantine_limit": 0.01}), MapsConfig(), tmp_path / "strict")
