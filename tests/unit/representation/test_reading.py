"""Rows of creatives to decoded pictures: exactly the rows that cannot be used are told of, with their reasons."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from adray.data.schema import IMAGE
from adray.errors import DataError
from adray.representation.reading import creatives_from_arrow


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def table(*images: bytes | None, copies: list[str | None] | None = None) -> pa.Table:
    rows = len(images)
    return pa.table(
        {
            "creative_id": [f"c{i}" for i in range(rows)],
            "sku_id": [f"s{i}" for i in range(rows)],
            "image": pa.array([None if data is None else {"bytes": data, "path": None} for data in images], IMAGE),
            "copy": pa.array(copies or [None] * rows, pa.string()),
        }
    )


def test_transparency_is_laid_on_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (200, 100, 0, 255)
    pixels[0, 1] = (200, 100, 0, 0)
    pixels[1, 0] = (200, 100, 0, 128)
    creatives, lost = creatives_from_arrow(table(encoded(Image.fromarray(pixels), "PNG")))
    assert lost == []
    # 255 + (c - 255) * 128 / 255, rounded: 227.39, 177.19, 127.0
    assert creatives.pictures[0].tolist() == [[[200, 100, 0], [255, 255, 255]], [[227, 177, 127], [255, 255, 255]]]


def test_broken_rows_are_named_and_the_others_kept_in_order():
    good = encoded(Image.new("RGB", (8, 6), (10, 20, 30)), "PNG")
    rows = table(good, good[:-30], None, None, b"", good, copies=["a", "b", "only copy", "  ", "c", None])
    creatives, lost = creatives_from_arrow(rows)
    assert list(creatives.creative_ids) == ["c0", "c2", "c5"]
    assert list(creatives.sku_ids) == ["s0", "s2", "s5"]
    assert list(creatives.copies) == ["a", "only copy", ""]
    assert creatives.pictures[1] is None
    assert creatives.pictures[0].shape == (6, 8, 3)
    assert [row for row, _ in lost] == [1, 3, 4]
    assert lost[1][1] == "neither a picture nor copy"
    assert "cannot be decoded" in lost[0][1]
    assert "no bytes" in lost[2][1]


def test_a_null_id_is_a_lost_row():
    rows = table(encoded(Image.new("RGB", (4, 4)), "PNG")).set_column(0, "creative_id", pa.array([None], pa.string()))
    assert creatives_from_arrow(rows)[1] == [(0, "creative_id is null")]


@pytest.mark.parametrize(("size", "expected"), [((1600, 800), (400, 200)), ((399, 399), (399, 399)), ((801, 401), (401, 201))])
def test_large_pictures_are_averaged_down_but_stay_large_enough(size, expected):
    picture = Image.new("RGB", size, (7, 77, 177))
    creatives, _ = creatives_from_arrow(table(encoded(picture, "PNG")), at_least=100)
    height, width, _ = creatives.pictures[0].shape
    assert (width, height) == expected
    assert (creatives.pictures[0] == (7, 77, 177)).all()
    kept, _ = creatives_from_arrow(table(encoded(picture, "PNG")))
    assert kept.pictures[0].shape == (size[1], size[0], 3)


def test_relative_paths_are_below_the_root(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (5, 5), (1, 2, 3)), "PNG"))
    rows = pa.table(
        {
            "creative_id": ["1", "2", "3"],
            "sku_id": ["s", "s", "s"],
            "image": pa.array([{"bytes": None, "path": p} for p in ("a.png", str(tmp_path / "a.png"), "absent.png")], IMAGE),
        }
    )
    creatives, lost = creatives_from_arrow(rows, root=str(tmp_path))
    assert list(creatives.creative_ids) == ["1", "2"]
    assert [row for row, _ in lost] == [2]
    assert "absent.png" in lost[0][1]


def test_a_table_without_content_is_refused():
    with pytest.raises(DataError, match="no column 'image' or 'copy'"):
        creatives_from_arrow(pa.table({"creative_id": ["1"], "sku_id": ["2"]}))
    with pytest.raises(DataError, match="no column 'sku_id'"):
        creatives_from_arrow(pa.table({"creative_id": ["1"], "copy": ["2"]}))
