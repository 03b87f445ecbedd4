"""The HTML report: self-contained, escaped, and showing what the run holds."""

from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser

import pytest

from adray.config import RunConfig
from adray.report_html import cell, format_number, group_metrics, headline_metrics, render, stage_shares, total_seconds
from adray.run import Run

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")


class Reader(HTMLParser):
    """Collects the text and every attribute that a browser would load something for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        if tag not in {"meta", "img", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())


@pytest.fixture
def page(tmp_path):
    run = Run("a<b", tmp_path)
    run.seconds.update({"read": 1.0, "train": 4.0})
    run.log({"ranker/auc": 0.71234567, "ranker/bad": math.nan, "rows": 300000, "world/x": 1e-8})
    run.headlines = ["rows", "absent"]
    (tmp_path / "p.png").write_bytes(PIXEL)
    (tmp_path / "p.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    run.add_plot("Loss & more", "p.png")
    run.add_plot("Vector", "p.svg")
    run.add_table("Objectives", ["objective", "share", "ok"], [["<script>alert(1)</script>", 0.5, True]], note="made by hand")
    run.artifacts.append("/x/light")
    return render(run, run.report("train"), RunConfig(kind="ranker", name="a", seed=41))


def test_parts_of_a_stage_count_once():
    assert total_seconds({"read": 1.0, "train": 4.0, "train/setup": 3.0, "serve/start": 2.0}) == 7.0


def test_nothing_is_loaded_from_elsewhere(page):
    reader = Reader(page)
    assert reader.open == []
    assert len(reader.loads) == 2 and all(uri.startswith("data:image/") for uri in reader.loads)
    assert base64.b64encode(PIXEL).decode() in page
    assert not re.search(r"@import|url\(", page)


def test_everything_is_shown(page):
    text = Reader(page).text
    for expected in ("0.7123", "300,000", "1.000e-08", "Loss & more", "Objectives", "made by hand", "yes", "artifact /x/light", "4.0"):
        assert expected in text, expected
    assert any("seed: 41" in part for part in text)
    assert "a<b" in text and "torch" in text


def test_user_text_is_escaped(page):
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_theme_follows_the_reader(page):
    assert "prefers-color-scheme: dark" in page and "color-scheme: light dark" in page


def test_a_run_without_anything_still_renders(tmp_path):
    run = Run("a", tmp_path)
    reader = Reader(render(run, run.report("export"), RunConfig(kind="ranker", name="a")))
    assert reader.open == [] and reader.loads == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (3.0, "3"),
        (1234567.0, "1,234,567"),
        (0.5, "0.5"),
        (0.00012, "1.200e-04"),
        (-0.12345, "-0.1235"),
        (1234.56, "1,234.6"),
        (2.5e9 + 0.5, "2.500e+09"),
    ],
)
def test_numbers_as_people_read_them(value, text):
    assert format_number(value) == text


def test_cells():
    assert [cell(v) for v in (True, False, None, 0.25, "x")] == ["yes", "no", "-", "0.25", "x"]


def test_grouping():
    assert group_metrics({"a/b/c": 1.0, "d": 2.0, "a/e": None}) == {"a": [("b/c", 1.0), ("e", None)], "": [("d", 2.0)]}
    assert list(headline_metrics({f"m{i}": 1.0 for i in range(9)}, [])) == [f"m{i}" for i in range(6)]
    assert headline_metrics({"a": 1.0, "b": 2.0}, ["b"]) == {"b": 2.0}
    assert stage_shares({"a": 1.0, "b": 4.0}) == [("a", 1.0, 25.0), ("b", 4.0, 100.0)]
    assert stage_shares({"a": 0.0}) == [("a", 0.0, 0.0)]
