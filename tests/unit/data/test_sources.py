"""Finding and reading sources of every format."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from adray.data.sources import open_source, read_part
from adray.data.storage import find_files
from adray.errors import DataError


def read(path: str | Path, **types: str) -> tuple[pa.Table, list[tuple[str, str]]]:
    source = open_source(str(path), types)
    bad: list[tuple[str, str]] = []
    pieces = [rows for part in source.parts for rows in read_part(source, part, lambda key, reason: bad.append((key, reason)))]
    return pa.concat_tables(pieces), bad


def write(path: Path, first: int, count: int, group: int = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": range(first, first + count)}), path, row_group_size=group)


def test_parquet_file_folder_glob_and_uri(tmp_path: Path) -> None:
    write(tmp_path / "b" / "2.parquet", 10, 5)
    write(tmp_path / "a.parquet", 0, 10)
    write(tmp_path / "_temporary" / "x.parquet", 90, 1)
    write(tmp_path / "b" / ".hidden.parquet", 90, 1)
    (tmp_path / "_SUCCESS").touch()
    for path, rows in (
        (tmp_path, range(15)),
        (tmp_path / "a.parquet", range(10)),
        (tmp_path / "*" / "2.parquet", range(10, 15)),
        (tmp_path.as_uri(), range(15)),
    ):
        assert read(path)[0]["x"].to_pylist() == list(rows)


def test_parquet_is_cut_into_parts_at_row_groups(tmp_path: Path) -> None:
    write(tmp_path / "big.parquet", 0, 150_000, group=30_000)
    source = open_source(str(tmp_path))
    assert [sum(g.rows for g in part.groups) for part in source.parts] == [90_000, 60_000]
    assert max(t.num_rows for part in source.parts for t in read_part(source, part, print)) <= 2048


def test_files_with_different_widths_of_a_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": pa.array([2.5])}), tmp_path / "b.parquet")
    assert open_source(str(tmp_path)).schema.field("x").type == pa.float64()
    pq.write_table(pa.table({"x": ["text"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="disagree on their columns"):
        open_source(str(tmp_path))


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('id,text,empty\n1,"two\nlines",\n2,b,\nshort\n3,c,x\n')
    rows, bad = read(file)
    assert rows.to_pylist() == [
        {"id": 1, "text": "two\nlines", "empty": None},
        {"id": 2, "text": "b", "empty": None},
        {"id": 3, "text": "c", "empty": "x"},
    ]
    assert len(bad) == 1 and bad[0][1] == "1 columns instead of 3"
    assert read(file, id="string")[0]["id"].to_pylist() == ["1", "2", "3"]


def test_csv_whose_beginning_misleads_names_the_cure(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id\n" + "1\n" * 3_000_000 + "late\n")
    with pytest.raises(DataError, match=r"t.csv: .*late.*; name the column's type in data.types"):
        read(file)
    assert read(file, id="string")[0]["id"][-1].as_py() == "late"


def test_flat_pictures_are_their_own_sku(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2)).save(stream, "PNG")
    for name in ("b.png", "a.PNG", "sku7/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(stream.getvalue())
    rows, _ = read(tmp_path)
    assert list(zip(rows["creative_id"].to_pylist(), rows["sku_id"].to_pylist(), strict=True)) == [
        ("a", "a"),
        ("b", "b"),
        ("sku7/1", "sku7"),
    ]


def test_tars(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))

    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        add(tar, "x.jpg", b"J")
        add(tar, "x.json", b'{"sku_id": 9, "creative_id": "C", "copy": "hi", "source": "generated"}')
        add(tar, "y.seg.png", b"P")
        add(tar, "y.png", b"Q")
        add(tar, "z.json", b"[1]")
    rows, bad = read(tmp_path / "a.tar")
    assert rows.select(["creative_id", "sku_id", "copy", "source"]).to_pylist() == [
        {"creative_id": "C", "sku_id": "9", "copy": "hi", "source": "generated"},
        {"creative_id": "y", "sku_id": "y", "copy": None, "source": None},
    ]
    assert rows["image"].to_pylist()[1]["bytes"] == b"Q"
    assert bad == [("z", "its .json is not an object")]
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match=r"broken.tar is not a readable tar"):
        read(tmp_path / "broken.tar")


def test_nothing_there(tmp_path: Path) -> None:
    write(tmp_path / "impressions.parquet", 0, 1)
    with pytest.raises(DataError, match=r"impression.parquet does not exist; did you mean impressions.parquet\?"):
        open_source(str(tmp_path / "impression.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no"):
        open_source(str(tmp_path / "empty"))
    with pytest.raises(DataError, match="holds no"):
        find_files(str(tmp_path / "*.csv"), (".csv",))
    with pytest.raises(DataError, match=r"no-such-scheme://x cannot be opened"):
        open_source("no-such-scheme://x")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt is no .parquet, .csv"):
        open_source(str(tmp_path / "notes.txt"))
