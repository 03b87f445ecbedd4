"""The whole job in this process, without OCR: any input ends as a row or in the quarantine, and is done once."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from adray.config import validate
from adray.data.schema import IMAGE
from adray.errors import ConfigError, DataError
from adray.representation.attributes import worker
from adray.representation.attributes.config import AttributesRunConfig
from adray.representation.attributes.extractors import build_extractors, provenance_of
from adray.representation.attributes.job import extract_table
from adray.representation.attributes.products import read_products


def picture(mode="RGB", size=(64, 48), colour=(46, 158, 68), form="PNG", **options) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(data, form, **options)
    return data.getvalue()


def animated() -> bytes:
    data = io.BytesIO()
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((224, 27, 36), (0, 0, 0))]
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    return data.getvalue()


def write_creatives(path, rows, group=4):
    columns = {
        "creative_id": pa.array([row[0] for row in rows], pa.string()),
        "sku_id": pa.array([f"s-{row[0]}" for row in rows], pa.string()),
        "image": pa.array([None if row[1] is None else {"bytes": row[1], "path": None} for row in rows], IMAGE),
        "copy": pa.array([row[2] for row in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), path, row_group_size=group)


def config(path, **more) -> AttributesRunConfig:
    data = {"creatives": str(path), **more.pop("data", {})}
    fields = {"text_boxes": "none", **more.pop("fields", {})}
    return validate(AttributesRunConfig, {"kind": "attributes", "name": "a", "data": data, "fields": fields, **more}, "test")


def rows_of(done):
    return {row["creative_id"]: row for row in pq.read_table(done.table).to_pylist()}


def test_broken_inputs(tmp_path):
    jpeg = picture(form="JPEG", size=(300, 200))
    huge = bytearray(picture(size=(16, 16)))
    # A PNG header that claims 20,000 x 20,000 pixels, its checksum mended.
    import zlib

    huge[16:24] = (20_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    rows = [
        ("truncated", jpeg[: len(jpeg) // 2], "red"),
        ("huge", bytes(huge), "red"),
        ("nothing", b"", ""),
        ("no-picture-no-copy", None, "  "),
        ("pixel", picture(size=(1, 1)), ""),
        ("cmyk", picture("CMYK", form="JPEG"), ""),
        ("animated", animated(), ""),
        ("long", picture(size=(20_000, 100)), ""),
        ("right-to-left", picture(), "\u202eحذاء أحمر 30% off שלום"),
        ("emoji", picture(), "🎉👨‍👩‍👧‍👦🔥 SALE 🔥\U0001f3fd"),
        ("grey", picture("L"), "x"),
        ("transparent", picture("RGBA"), "x"),
        ("no-copy", picture(), None),
        ("null-bytes", None, "red\x00shoe\ud7ff"),
    ]
    write_creatives(tmp_path / "creatives.parquet", rows)
    done = extract_table(config(tmp_path / "creatives.parquet", data={"quarantine_limit": 0.5}), tmp_path / "run")
    lost = {row["key"]: row for row in pq.read_table(done.quarantine).to_pylist()}
    assert set(lost) == {"truncated", "huge", "nothing", "no-picture-no-copy"}
    assert all(row["stage"] == "extract" and row["table"] == "creatives" and row["reason"] for row in lost.values())
    assert "too many pixels" in lost["huge"]["reason"] and "neither" in lost["no-picture-no-copy"]["reason"]
    found = rows_of(done)
    assert len(found) == 10 and (done.kept, done.lost) == (10, 4)
    names = {key: row["explicit"]["background_colour"]["name"] for key, row in found.items()}
    assert names["animated"] == "red"
    assert {names[key] for key in ("pixel", "cmyk", "long", "right-to-left", "emoji", "transparent")} == {"green"}
    assert names["grey"] == "grey" and names["null-bytes"] == "unknown"
    assert found["right-to-left"]["implicit"]["promotion"]["value"] == "discount"
    assert found["emoji"]["implicit"]["promotion"]["evidence"] == "SALE"
    assert (found["long"]["width"], found["long"]["height"]) == (20_000, 100)


def test_offsets_hold_end_to_end(tmp_path):
    (tmp_path / "shop.json").write_text(
        json.dumps([{"id": 7, "name": "🎉 Daybird ＲＥＤ 纯棉 shirt", "text": "🔥 500ml שלום steel, no discount", "maker": "Daybird"}]),
        encoding="utf-8",
    )
    columns = {"creative_id": "id", "title": "name", "copy": "text", "brand": "maker"}
    done = extract_table(config(tmp_path / "shop.json", data={"columns": columns}), tmp_path / "run")
    row = rows_of(done)["7"]
    texts = {"title": "🎉 Daybird ＲＥＤ 纯棉 shirt", "copy": "🔥 500ml שלום steel, no discount"}
    entities = row["explicit"]["entities"]
    assert [(e["type"], e["value"], e["source"]) for e in entities] == [
        ("brand", "Daybird", "title"),
        ("colour", "red", "title"),
        ("material", "cotton", "title"),
        ("volume", "500ml", "copy"),
        ("material", "steel", "copy"),
    ]
    for entity in entities:
        assert texts[entity["source"]][entity["start"] : entity["end"]] == entity["text"]
    assert (row["implicit"]["promotion"]["value"], row["implicit"]["promotion"]["evidence"]) == ("none", "no discount")
    assert row["sku_id"] == "7"


def test_a_finished_part_is_not_done_again(tmp_path, monkeypatch):
    write_creatives(tmp_path / "creatives.parquet", [(f"c{i}", picture(), "x") for i in range(8)])
    settings = config(tmp_path / "creatives.parquet", job={"chunk_rows": 2, "batch_rows": 2})
    whole = extract_table(settings, tmp_path / "whole")
    run = worker.ExtractWorker.run
    calls = []

    def dies(self, item):
        calls.append(item.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(self, item)

    monkeypatch.setattr(worker.ExtractWorker, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        extract_table(settings, tmp_path / "run")
    (tmp_path / "run" / "attributes" / "part-unrecorded.parquet").write_bytes(b"half")
    resumed = extract_table(settings, tmp_path / "run")
    assert len(calls) == 3 + 2 and len(set(calls)) == 4
    assert (resumed.kept, resumed.new) == (8, 4)
    assert rows_of(resumed) == rows_of(whole)
    again = extract_table(settings, tmp_path / "run")
    assert (again.kept, again.new, len(calls)) == (8, 0, 5)
    assert "representation/extract/rows_per_s" not in again.metrics()


def test_records_that_are_as_they_were_are_not_done_again(tmp_path):
    records = [{"creative_id": f"c{i}", "title": "cotton shirt", "copy": f"{i} left"} for i in range(5)]
    (tmp_path / "catalogue.json").write_text(json.dumps(records))
    settings = config(tmp_path / "catalogue.json")
    assert extract_table(settings, tmp_path / "run").new == 5
    assert extract_table(settings, tmp_path / "run").new == 0
    (tmp_path / "catalogue.json").write_text(json.dumps(records[:4]))
    changed = extract_table(settings, tmp_path / "run")
    assert (changed.new, changed.kept) == (4, 4)


def test_an_id_twice_is_refused_and_mended_by_resuming(tmp_path):
    rows = [(f"c{i}", picture(), "x") for i in range(6)]
    write_creatives(tmp_path / "creatives.parquet", [*rows, rows[1]])
    settings = config(tmp_path / "creatives.parquet", job={"chunk_rows": 2, "batch_rows": 2})
    with pytest.raises(DataError, match="creative_id 'c1' occurs twice"):
        extract_table(settings, tmp_path / "run")
    write_creatives(tmp_path / "creatives.parquet", rows)
    assert extract_table(settings, tmp_path / "run").kept == 6


def test_other_extractors_rows_are_not_mixed(tmp_path):
    write_creatives(tmp_path / "creatives.parquet", [("a", picture(), "x")])
    extract_table(config(tmp_path / "creatives.parquet"), tmp_path / "run")
    with pytest.raises(DataError, match="holds attributes of extractor"):
        extract_table(config(tmp_path / "creatives.parquet", brands=["Zev"]), tmp_path / "run")


def test_too_many_losses_stop_the_job(tmp_path):
    rows = [(f"c{i}", b"no picture" if i < 3 else picture(), "x") for i in range(10)]
    write_creatives(tmp_path / "creatives.parquet", rows, group=2)
    settings = config(tmp_path / "creatives.parquet", data={"quarantine_limit": 0.25}, job={"chunk_rows": 2, "batch_rows": 2})
    with pytest.raises(DataError, match=r"3 of 10 rows \(30.00%\) cannot be used, limit 25.00%; first c0: decode"):
        extract_table(settings, tmp_path / "run")
    # It stopped where the limit was passed: the last three pieces were not begun.
    assert len(list((tmp_path / "run" / "done").glob("*.json"))) == 2
    settings = config(tmp_path / "creatives.parquet", data={"quarantine_limit": 0.3}, job={"chunk_rows": 2, "batch_rows": 2})
    assert extract_table(settings, tmp_path / "run").lost == 3


def test_one_row_that_an_extractor_cannot_stand_costs_itself_alone(tmp_path, monkeypatch):
    from adray.representation.attributes import rules

    measure = rules.measure_background

    def picky(pixels, *more):
        if pixels.shape[1] == 13:
            raise ZeroDivisionError("thirteen")
        return measure(pixels, *more)

    monkeypatch.setattr(rules, "measure_background", picky)
    rows = [("a", picture(), "x"), ("b", picture(size=(13, 20)), "x"), ("c", picture(), "x")]
    write_creatives(tmp_path / "creatives.parquet", rows)
    done = extract_table(config(tmp_path / "creatives.parquet", data={"quarantine_limit": 0.5}), tmp_path / "run")
    assert set(rows_of(done)) == {"a", "c"}
    assert pq.read_table(done.quarantine).to_pylist()[0]["reason"] == "extract: ZeroDivisionError: thirteen"


def test_throughput_is_told_per_stage(tmp_path):
    write_creatives(tmp_path / "creatives.parquet", [(f"c{i}", picture(), "x") for i in range(6)])
    seen = []
    done = extract_table(config(tmp_path / "creatives.parquet"), tmp_path / "run", lambda *told: seen.append(told))
    assert set(done.stage_seconds) == {"read", "decode", "colour", "lexicon", "write"}
    for stage in ("decode", "colour", "lexicon"):
        speed = done.metrics()[f"representation/extract/{stage}_rows_per_s"]
        assert speed == pytest.approx(6 / done.stage_seconds[stage])
    assert seen[-1][:2] == (6, 6) and {"all", "decode", "colour", "lexicon"} <= set(seen[-1][2])


def test_titles_and_brands_of_products(tmp_path):
    products = {
        "sku_id": ["s2", "s1"],
        "title": ["Two", "One"],
        "attributes": pa.array([[("brand", "Zev")], None], pa.map_(pa.string(), pa.string())),
    }
    pq.write_table(pa.table(products), tmp_path / "products.parquet")
    titles, brands = read_products(str(tmp_path / "products.parquet"))
    assert titles.of(["s1", "s3", "s2", "s1"]) == ["One", "", "Two", "One"] and brands == ["Zev"]


def test_wrong_configs(tmp_path):
    write_creatives(tmp_path / "creatives.parquet", [("a", picture(), "x")])
    with pytest.raises(ConfigError, match="fields.style is 'heads' and section 'heads' is missing"):
        config(tmp_path, fields={"style": "heads"})
    with pytest.raises(ConfigError, match="'titel' is not one of"):
        config(tmp_path, data={"columns": {"titel": "x"}})
    (tmp_path / "shop.yaml").write_text("- {id: a}\n")
    with pytest.raises(ConfigError, match=r"field 'data.columns.title' is 'nom', the records have id"):
        extract_table(config(tmp_path / "shop.yaml", data={"columns": {"creative_id": "id", "title": "nom"}}), tmp_path / "run")
    (tmp_path / "shop.yaml").write_text("a: 1\n")
    with pytest.raises(DataError, match="is no list of records"):
        extract_table(config(tmp_path / "shop.yaml"), tmp_path / "run")
    with pytest.raises(DataError, match="has pictures of 0 brands"):
        build_extractors(config(tmp_path / "creatives.parquet", logos={"gallery": str(tmp_path)}), [])


def test_the_hash_covers_what_shapes_values(tmp_path):
    base = config(tmp_path)
    same = provenance_of(build_extractors(base, ["Zev"]))
    assert same == provenance_of(build_extractors(base.model_copy(update={"job": base.job.model_copy(update={"batch_rows": 3})}), ["Zev"]))
    assert same != provenance_of(build_extractors(base, ["Zev", "Other"]))
    assert same != provenance_of(build_extractors(config(tmp_path, fields={"style": "none"}), ["Zev"]))
    assert len(same.extractor) == 16 and same.prompt is None
