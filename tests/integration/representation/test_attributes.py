"""Attributes end to end with real OCR and real vectors: a world's drawn truth, logos pasted on pictures, a pool of actors."""

from __future__ import annotations

import io
import math
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont

from adray import kinds
from adray.representation.attributes.background import measure_background
from adray.representation.attributes.config import AttributesRunConfig
from adray.representation.attributes.implicit import read_promotion, read_selling_points
from adray.representation.attributes.job import extract_table
from adray.representation.attributes.logos import LogoConfig, LogoFinder
from adray.representation.attributes.ocr import OcrConfig, TextReader
from adray.representation.attributes.regions import overlap
from adray.representation.attributes.values import Text
from adray.simulation.config import WorldConfig
from adray.simulation.world import simulate_world

ROOT = Path(__file__).parents[3]

# What each drawn background may be called; `complex` where it has two colours, or one that runs into another.
BACKGROUNDS = {
    "studio": {"white", "light grey"},
    "sunset": {"orange", "complex"},
    "ocean": {"light blue", "blue", "complex"},
    "night": {"navy", "purple", "complex"},
    "stripes": {"pink"},
    "confetti": {"beige"},
    "shelf": {"beige", "brown", "complex"},
    "rays": {"green"},
}


def promised(elements: dict[str, str]) -> str:
    """What a drawn creative promises, by its parts: the most binding first."""
    if elements["selling_point"] == "bundle":
        return "gift"
    if elements["selling_point"] == "discount" or elements["badge"] == "sale":
        return "discount"
    if elements["selling_point"] == "limited":
        return "limited_time"
    return "new_arrival" if "new" in (elements["title"], elements["badge"]) else "none"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "world"
    sizes = {"users": 40, "skus": 5, "creatives_per_sku": (4, 6), "impressions": 200, "requests": 10, "image_size": 256}
    simulate_world(WorldConfig(**sizes, cold_start_share=0.0, base_ctr=0.05), 3, folder)
    return folder


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader(OcrConfig())


def test_the_drawn_truth_of_a_world(world, tmp_path, ray_cluster):
    """Through the command's own path: two actors, the report with its tables and contact sheet."""
    values = {
        "kind": "attributes",
        "name": "a",
        "runs_dir": str(tmp_path),
        "data": {"creatives": str(world / "creatives.parquet")},
        "ocr": {"longest_side": 480, "shortest_side": 480},
        "job": {"workers": 2, "chunk_rows": 8, "batch_rows": 4},
        "contact_sheet": 4,
    }
    run, report = kinds.perform(kinds.make_job(values, "test"), "extract")
    elements = {r["creative_id"]: dict(r["elements"]) for r in pq.read_table(world / "creatives.parquet").to_pylist()}
    rows = {row["creative_id"]: row for row in pq.read_table(run.folder / "attributes").to_pylist()}
    assert rows.keys() == elements.keys() and len(rows) >= 20
    named = [r["explicit"]["background_colour"]["name"] in BACKGROUNDS[elements[key]["background"]] for key, r in rows.items()]
    assert np.mean(named) >= 0.95
    plain = [r["explicit"]["background_colour"]["name"] != "complex" for key, r in rows.items()]
    assert np.mean(plain) >= 0.6
    right = [r["implicit"]["promotion"]["value"] == promised(elements[key]) for key, r in rows.items()]
    assert np.mean(right) >= 0.9
    # The badge is in the picture alone.
    badged = [r for key, r in rows.items() if elements[key]["badge"] != "none"]
    read = [any(box["text"].upper() in {"SALE", "NEW", "HOT", "ECO", "TOP"} for box in r["explicit"]["text_boxes"]) for r in badged]
    assert np.mean(read) >= 0.7
    # The brand is in the product's title, which lies beside the creatives.
    assert np.mean([any(e["type"] == "brand" and e["source"] == "title" for e in r["explicit"]["entities"]) for r in rows.values()]) == 1.0
    for row in rows.values():
        for entity in row["explicit"]["entities"]:
            if entity["source"] == "ocr":
                text = row["explicit"]["text_boxes"][entity["text_box"]]["text"]
                assert text[entity["start"] : entity["end"]] == entity["text"]
        assert row["extractor"] == report_value(run, "extractor") and row["tokens"]
    for stage in ("decode", "ocr", "colour", "lexicon"):
        assert report["metrics"][f"representation/extract/{stage}_rows_per_s"] > 0
    assert Image.open(run.folder / "plots" / "attributes.png").size[0] > 500
    again = extract_table(AttributesRunConfig(**values), run.folder)
    assert (again.kept, again.new) == (len(rows), 0)


def report_value(run, name):
    table = next(t for t in run.report_tables if t.title == "Provenance of every row")
    return dict(table.rows)[name]


def test_drawn_texts_are_read_where_they_are(reader):
    image = Image.new("RGB", (600, 400), (250, 232, 236))
    pen = ImageDraw.Draw(image)
    pen.text((40, 50), "30% off today", fill=(20, 20, 20), font_size=44)
    pen.text((200, 300), "FREE SHIPPING", fill=(180, 20, 40), font_size=36)
    first, second = reader.read(np.asarray(image))
    assert first.text.replace(" ", "").lower() == "30%offtoday" and second.text.replace(" ", "") == "FREESHIPPING"
    for found, place in ((first, (40, 50, 44)), (second, (200, 300, 36))):
        truth = pen.textbbox(place[:2], "30% off today" if found is first else "FREE SHIPPING", font_size=place[2])
        xs, ys = found.polygon[::2], found.polygon[1::2]
        assert overlap((min(xs), min(ys), max(xs), max(ys)), truth) > 0.5
        assert found.score == found.confidence > 0.6


def test_drawn_chinese_is_read_and_understood(reader):
    """Debian's fonts-wqy-microhei draws the copy; what is read of it names the promotion."""
    font = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")
    if not font.is_file():
        pytest.skip("no Chinese font: install fonts-wqy-microhei")
    lines = ("限时五折包邮", "真皮运动鞋", "满300减50")
    image = Image.new("RGB", (600, 400), (250, 232, 236))
    pen = ImageDraw.Draw(image)
    for row, (line, size) in enumerate(zip(lines, (64, 40, 28), strict=True)):
        pen.text((40, 40 + 120 * row), line, fill=(20, 20, 20), font=ImageFont.truetype(str(font), size))
    found = reader.read(np.asarray(image))
    # The recogniser may give a character in its traditional form, which the lexicons know as well.
    assert tuple(box.text.replace(" ", "").replace("減", "减") for box in found) == lines
    texts = [Text("ocr", box.text, number, box.score) for number, box in enumerate(found)]
    told = [read_promotion([text]).value for text in texts]
    assert told == ["discount", "none", "discount"]
    assert [point.value for point in read_selling_points(texts)] == ["free_shipping"]


def test_pictures_of_any_shape(reader):
    """Tiles of a long picture overlap: each word is read once, at its place."""
    image = Image.new("RGB", (6000, 100), "white")
    pen = ImageDraw.Draw(image)
    for x in (100, 880, 1500, 3100, 5500):
        pen.text((x, 20), f"WORD {x}", fill="black", font_size=48)
    found = sorted((box.polygon[0], box.text.replace(" ", "")) for box in reader.read(np.asarray(image)))
    assert [text for _, text in found] == ["WORD100", "WORD880", "WORD1500", "WORD3100", "WORD5500"]
    assert all(abs(x - int(text[4:])) < 30 for x, text in found)
    turned = reader.read(np.asarray(Image.new("RGB", (40, 3000), "white")))
    assert turned == ()
    for shape in ((1, 1, 3), (4, 500, 3), (100, 20_000, 3)):
        assert reader.read(np.full(shape, 255, np.uint8)) == ()


def test_nothing_is_fetched(monkeypatch):
    def refuse(*given):
        raise AssertionError(f"a connection was opened: {given}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert TextReader(OcrConfig()).read(np.full((64, 64, 3), 255, np.uint8)) == ()


def star(pen, s, ink):
    radii = [0.48, 0.2] * 5
    pen.polygon([(s / 2 + s * r * math.sin(i * math.pi / 5), s / 2 - s * r * math.cos(i * math.pi / 5)) for i, r in enumerate(radii)], ink)


def ring(pen, s, ink):
    pen.ellipse([s * 0.05, s * 0.05, s * 0.95, s * 0.95], outline=ink, width=s // 5)


def cross(pen, s, ink):
    pen.rectangle([s * 0.38, s * 0.02, s * 0.62, s * 0.98], ink)
    pen.rectangle([s * 0.02, s * 0.38, s * 0.98, s * 0.62], ink)


def bars(pen, s, ink):
    for k in range(4):
        pen.rectangle([s * k / 4, s * (0.75 - 0.25 * k), s * (k / 4 + 0.17), s], ink)


def moon(pen, s, ink):
    pen.ellipse([0, 0, s - 1, s - 1], ink)
    pen.ellipse([s * 0.3, -s * 0.05, s * 1.1, s * 0.75], (0, 0, 0, 0))


SIGNS = {
    "star": (star, (230, 160, 20)),
    "ring": (ring, (200, 30, 40)),
    "cross": (cross, (20, 120, 60)),
    "bars": (bars, (20, 20, 20)),
    "moon": (moon, (110, 40, 140)),
}


def sign(name: str, side: int) -> Image.Image:
    draw, ink = SIGNS[name]
    image = Image.new("RGBA", (side * 3, side * 3), (0, 0, 0, 0))
    draw(ImageDraw.Draw(image), side * 3, (*ink, 255))
    return image.resize((side, side), Image.Resampling.LANCZOS)


def test_logos_by_retrieval(world, tmp_path):
    """Four brands in the gallery, a fifth that is not: found where they were pasted, and the stranger refused."""
    for name in SIGNS.keys() - {"moon"}:
        (tmp_path / name).mkdir()
        sign(name, 160).save(tmp_path / name / "sign.png")
    finder = LogoFinder(LogoConfig(gallery=str(tmp_path), most_candidates=12))
    rng = np.random.default_rng(0)
    cutouts = pq.read_table(world / "products.parquet", columns=["cutout"]).to_pylist()
    hits = wrong = planted = 0
    for number in range(15):
        picture = Image.new("RGB", (360, 360), tuple(int(v) for v in rng.integers(150, 256, 3)))
        product = Image.open(io.BytesIO(cutouts[number % len(cutouts)]["cutout"]["bytes"])).resize((200, 200))
        picture.paste(product, (80, 90), product)
        name = [*SIGNS, None][number % 6]
        side = int(rng.integers(48, 72))
        left, top = [(10, 10), (350 - side, 10), (10, 350 - side), (350 - side, 350 - side)][number % 4]
        if name is not None:
            picture.paste(sign(name, side), (left, top), sign(name, side))
        pixels = np.asarray(picture)
        known = name in SIGNS.keys() - {"moon"}
        planted += known
        for logo in finder.find(pixels, measure_background(pixels)):
            assert logo.score >= finder.gallery.threshold and 0.5 <= logo.confidence <= 1.0 and logo.source == "image"
            if known and logo.brand == name and overlap(logo.box, (left, top, left + side, top + side)) > 0.4:
                hits += 1
            else:
                wrong += 1
    assert planted == 11
    print(f"logos: {hits} of {planted} found, {wrong} wrong")
    assert hits / planted >= 0.8, f"recall {hits}/{planted}"
    assert hits / (hits + wrong) >= 0.8, f"precision {hits}/{hits + wrong}"


@pytest.mark.realdata
def test_real_catalogues(tmp_path):
    data = Path(os.environ.get("ADRAY_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "eshop").is_dir():
        pytest.skip(f"no catalogue at {data / 'eshop'}; set ADRAY_DATA")
    eshop = {"creative_id": "Id", "title": "Name", "copy": "Description", "brand": "Brand"}
    source = {"creatives": str(data / "eshop" / "catalog.json"), "columns": eshop, "picture": "{Id}.webp"}
    config = AttributesRunConfig(kind="attributes", name="a", data=source, fields={"text_boxes": "none"}, job={"batch_rows": 8})
    done = extract_table(config, tmp_path / "eshop")
    assert (done.kept, done.lost) == (101, 0)
    rows = pq.read_table(done.table).to_pylist()
    # AI-made studio pictures: nearly all on white or grey.
    studio = {"white", "light grey", "grey"}
    assert np.mean([row["explicit"]["background_colour"]["name"] in studio for row in rows]) > 0.8
    # Every description names its brand but for a few.
    assert np.mean([any(e["type"] == "brand" for e in row["explicit"]["entities"]) for row in rows]) > 0.8
    assert {row["implicit"]["promotion"]["value"] for row in rows} == {"none"}
    columns = {"creative_id": "id", "title": "name", "copy": "description"}
    copy = {"creatives": str(data / "products" / "products.yaml"), "columns": columns}
    done = extract_table(AttributesRunConfig(kind="attributes", name="b", data=copy), tmp_path / "products")
    assert (done.kept, done.lost) == (2465, 0)
    styles = pq.read_table(done.table, columns=["implicit"]).to_pylist()
    assert np.mean([row["implicit"]["style"]["value"] != "unknown" for row in styles]) > 0.4
