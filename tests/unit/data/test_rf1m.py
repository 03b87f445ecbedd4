"""A copy of the release in small: two archives of pictures, cut-outs for some of them, and label.txt."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from adray.data.adapters.rf1m import Rf1m, Rf1mConfig
from adray.errors import DataError


def png(channels, value=120):
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, channels), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def jpeg():
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def release(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "cutouts").mkdir()
    with zipfile.ZipFile(tmp_path / "images" / "part_00.zip", "w") as archive:
        archive.writestr("part_00/100_1.jpg", jpeg())
        archive.writestr("part_00/100_2.jpg", jpeg())
        archive.writestr("__MACOSX/._100_1.jpg", b"x")
    with tarfile.open(tmp_path / "images" / "part_01.tar", "w") as archive:
        for name in ("200_1.jpg", "300_1.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg())
            archive.addfile(member, io.BytesIO(jpeg()))
    with zipfile.ZipFile(tmp_path / "cutouts" / "products.zip", "w") as archive:
        for name in ("100_1.png", "100_2.png", "200_1.png"):
            archive.writestr(name, png(4))
    (tmp_path / "label.txt").write_text("100_1.jpg 1\n100_2.jpg\t6\n\n200_1.jpg, 2\n300_1.jpg 3\n")
    return tmp_path


def rows(opened):
    parts = [opened.read_part(i) for i in range(len(opened.parts))]
    tables, lost = zip(*[pair for part in parts for pair in part], strict=True)
    return pa.concat_tables(tables).to_pylist(), [one for each in lost for one in each]


def test_reads_the_released_layout(release):
    found, lost = rows(Rf1m(str(release), Rf1mConfig(sku_pattern=r"^(\d+)_")))
    assert lost == []
    assert [(r["annotation_id"], r["sku_id"], r["label"], r["copy"]) for r in found] == [
        ("100_1", "100", "available", None),
        ("100_2", "100", "shape_hallucination", None),
        ("200_1", "200", "unsuitable", None),
    ]
    assert found[0]["image"]["bytes"] == jpeg()
    assert found[0]["cutout"]["bytes"] == png(4)


def test_pictures_without_a_released_product_can_be_kept(release):
    found, _ = rows(Rf1m(str(release), Rf1mConfig(without_cutout="keep")))
    assert [(r["annotation_id"], r["cutout"] is None) for r in found][-1] == ("300_1", True)
    without, _ = rows(Rf1m(str(release), Rf1mConfig(cutouts=None, without_cutout="keep")))
    assert all(r["cutout"] is None for r in without)


def test_titles_of_ones_own(release):
    (release / "titles.tsv").write_text("100_1.jpg\tA mini kettle\n")
    found, _ = rows(Rf1m(str(release), Rf1mConfig(titles="titles.tsv")))
    assert [r["copy"] for r in found] == ["A mini kettle", None, None]


def test_labels_in_words(release):
    (release / "label.txt").write_text("100_1.jpg good\n")
    opened = Rf1m(str(release), Rf1mConfig(label_map={"good": "available"}))
    assert rows(opened)[0][0]["label"] == "available"
    assert sorted(opened.lost) == [(name, "it has no label") for name in ("100_2", "200_1", "300_1")]


def test_a_labelled_picture_that_is_not_there_is_named(release):
    with (release / "label.txt").open("a") as stream:
        stream.write("999.jpg 1\n")
    assert Rf1m(str(release), Rf1mConfig()).lost == [("999", "labelled, but there is no such picture")]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("100_1.jpg", "line 5 is '100_1.jpg', not a file name and a label"),
        ("x.jpg 7", "label '7' is unknown"),
        ("100_1.jpg 2", "another label"),
    ],
)
def test_anything_unexpected_names_the_line(release, line, text):
    (release / "label.txt").write_text("100_1.jpg 1\n100_2.jpg 6\n200_1.jpg 2\n300_1.jpg 3\n" + line + "\n")
    with pytest.raises(DataError, match=text):
        Rf1m(str(release), Rf1mConfig())


def test_damaged_and_doubled_archives_are_named(release):
    (release / "images" / "part_02.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"part_02.zip is no readable archive"):
        Rf1m(str(release), Rf1mConfig())
    with zipfile.ZipFile(release / "images" / "part_02.zip", "w") as archive:
        archive.writestr("100_1.jpg", jpeg())
    with pytest.raises(DataError, match="picture '100_1' is in"):
        Rf1m(str(release), Rf1mConfig())


@pytest.mark.parametrize("fields", [{"label_map": {"1": "fine"}}, {"sku_pattern": "abc"}, {"sku_pattern": "("}])
def test_wrong_settings(fields):
    with pytest.raises(ValueError, match="label_map|sku_pattern"):
        Rf1mConfig(**fields)
