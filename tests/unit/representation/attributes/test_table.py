"""Attributes as rows and as tokens."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adray.data.schema import ATTRIBUTES, TABLES
from adray.representation.attributes.extractor import Item
from adray.representation.attributes.table import SCHEMA, Provenance, attribute_tokens, attributes_table
from adray.representation.attributes.values import Attributes, Audience, Background, Entity, Logo, ReadValue, TextBox

ITEM = Item("c1", "Red shoe", "", np.zeros((20, 30, 3), np.uint8))
FOUND = Attributes(
    background_colour=Background((53.0, 80.0, 67.0), "red", 0.4, 0.9, 1.0, "image", 0.8),
    entities=(
        Entity("colour", "red", "Red", 0, 3, None, "title", 0.85),
        Entity("colour", "red", "red", 1, 4, 0, "ocr", 0.3),
        Entity("price", "$9", "$9", 5, 7, None, "title", 0.9),
    ),
    logos=(Logo("Zev", (1.0, 2.0, 3.0, 4.0), 0.9, "image", 0.7),),
    text_boxes=(TextBox((0.0, 0.0, 9.0, 0.0, 9.0, 5.0, 0.0, 5.0), "a red", 0.9, "ocr", 0.9),),
    promotion=ReadValue("none", None, "title", 0.6),
    audience=Audience(scene=ReadValue("sport", "gym", "title", 0.75)),
    selling_points=(ReadValue("durable", "durable", "title", 0.8),),
)


def test_rows_have_the_declared_schema_and_survive_a_file(tmp_path):
    table = attributes_table([ITEM, Item("c2", "", "", None)], ["s1", "s2"], [FOUND, Attributes(raw="{")], Provenance("abc", "def"))
    assert table.schema.equals(SCHEMA) and TABLES["attributes"] is ATTRIBUTES
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (first["creative_id"], first["sku_id"], first["width"], first["height"]) == ("c1", "s1", 30, 20)
    assert (first["extractor"], first["prompt"], first["schema_version"]) == ("abc", "def", "1")
    assert first["explicit"]["text_boxes"][0]["polygon"] == [0, 0, 9, 0, 9, 5, 0, 5]
    assert second["width"] is None and second["raw"] == "{" and first["raw"] is None
    assert second["implicit"]["promotion"] == {"value": "unknown", "evidence": None, "source": "none", "confidence": 0.0}
    assert second["explicit"]["background_colour"]["name"] == "unknown" and second["tokens"] == []


def test_every_value_carries_source_and_confidence():
    def leaves(kind):
        if pa.types.is_list(kind):
            return leaves(kind.value_type)
        if not pa.types.is_struct(kind):
            return []
        names = {field.name for field in kind}
        return [names] if "confidence" in names else [found for field in kind for found in leaves(field.type)]

    found = [*leaves(ATTRIBUTES.required.field("explicit").type), *leaves(ATTRIBUTES.required.field("implicit").type)]
    assert len(found) == 11 and all("source" in names for names in found)


def test_tokens():
    table = attributes_table([ITEM], ["s1"], [FOUND], Provenance("abc"))
    expected = ["background=red", "promotion=none", "scene=sport", "selling_point=durable", "logo=Zev", "colour=red"]
    assert table.column("tokens").to_pylist() == [expected] == attribute_tokens(table).to_pylist()
    assert attribute_tokens(table, least_confidence=0.79).to_pylist() == [["background=red", "selling_point=durable", "colour=red"]]
    assert attribute_tokens(table).type == pa.list_(pa.string())
