"""Audience, style, selling points and entities; offsets hold whatever the script."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adray.representation.attributes.entities import EntityReader
from adray.representation.attributes.implicit import (
    read_audience,
    read_promotion,
    read_selling_points,
    read_style,
    values_of,
)
from adray.representation.attributes.lexicon import LEXICONS, compile_rules, find, fold, load
from adray.representation.attributes.values import STATUSES, Text


def audience(text):
    found = read_audience([Text("copy", text)])
    return {part: value.value for part, value in vars(found).items() if value.value != "unknown"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Women's trail running shoes", {"gender": "female", "scene": "outdoor"}),
        ("For men and women", {"gender": "unisex"}),
        ("Men's and ladies' jackets", {"gender": "unisex"}),
        ("女童连衣裙", {"gender": "female", "age_band": "child"}),
        ("孕妇防辐射服", {"life_stage": "pregnant"}),
        ("男士商务公文包 上班族", {"gender": "male", "scene": "office", "life_stage": "office_worker"}),
        ("Back to school backpacks for teens", {"age_band": "teen", "life_stage": "student"}),
        ("Not for children", {}),
        ("Mention the womenfolk", {}),
        ("Steel kettle", {}),
    ],
)
def test_audience(text, expected):
    found = audience(text)
    assert {key: found.get(key) for key in expected} == expected
    assert expected or not found


def test_style():
    assert read_style([Text("copy", "A vintage look, retro at heart, with luxury trim")]).value == "retro"
    assert read_style([Text("copy", "新中式旗袍")]).value == "chinese"
    assert read_style([Text("copy", "Kettle 2 l")]) == read_style([])
    assert read_style([Text("copy", "Not luxury")]).value == "unknown"


def test_selling_points():
    points = read_selling_points([Text("copy", "包邮 防水 3年质保"), Text("ocr", "FREESHIPPING", 0, 0.9)])
    assert [p.value for p in points] == ["free_shipping", "waterproof", "warranty"]
    assert points[0].evidence == "包邮" and points[0].confidence == pytest.approx(1 - 0.1 * (1 - 0.81))
    assert [p.value for p in read_selling_points([Text("copy", "Rated 4.8 of 5. Ships in 24 h")])] == ["rating", "fast_delivery"]
    assert read_selling_points([Text("copy", "not waterproof")]) == ()


ENTITIES = [
    ("Daybird Wanderer black leather boots, size 42", ["brand=Daybird", "colour=black", "material=leather", "size=size42"]),
    ("纯棉T恤 藏青 均码 ￥99", ["material=cotton", "colour=navy", "size=one size", "price=¥99"]),
    ("500ML stainless steel bottle 20% off", ["volume=500ml", "material=stainless steel", "percentage=20%"]),
    ("Navy blue faux leather bag $1,299.00", ["colour=navy", "material=faux leather", "price=$1,299.00"]),
    ("5000mAh 充电宝 2.5kg", ["power=5000mah", "weight=2.5kg"]),
    ("The redwood bored men", []),
]


@pytest.mark.parametrize(("text", "expected"), ENTITIES)
def test_entities(text, expected):
    found = EntityReader(["Daybird", "Gravitator", "北岸"]).read([Text("title", text)])
    assert [f"{e.type}={e.value}" for e in found] == expected


def test_a_brand_is_found_in_any_script_and_only_whole():
    reader = EntityReader(["北岸", "Zev", "B&R"])
    found = reader.read([Text("title", "北岸户外 Zev B&R Zeven")])
    assert [(e.value, e.start, e.end) for e in found] == [("北岸", 0, 2), ("Zev", 5, 8), ("B&R", 9, 12)]


def test_offsets_count_characters_of_the_text_they_name():
    copy = "🎉👨‍👩‍👧 ＲＥＤ shoes שלום 30%"
    found = EntityReader().read([Text("copy", copy), Text("ocr", "红色", 3, 0.5)])
    assert [(e.text, e.source, e.text_box) for e in found] == [("ＲＥＤ", "copy", None), ("30%", "copy", None), ("红色", "ocr", 3)]
    assert copy[found[0].start : found[0].end] == "ＲＥＤ"
    assert found[2].confidence == pytest.approx(0.85 * 0.5)


# Pieces that are matched, and ones that change length when they are folded carelessly.
PIECES = st.lists(
    st.sampled_from(["red ", "纯棉", "İ", "ﬁ", "ß", "5kg", "🎉", "عربى", "ＳＡＬＥ", "50%", " ", "no discount", "e\u0301"])
    | st.text(max_size=5)
)


@given(PIECES.map("".join))
def test_any_text_keeps_its_offsets(text):
    for entity in EntityReader(["ACME"]).read([Text("copy", text)]):
        assert text[entity.start : entity.end] == entity.text
        assert 0 <= entity.start < entity.end <= len(text)
    for value in (read_promotion([Text("copy", text)]), read_style([Text("copy", text)]), *read_selling_points([Text("copy", text)])):
        assert value.evidence is None or value.evidence in text
        assert 0.0 <= value.confidence <= 1.0


@given(st.text())
def test_folding_keeps_every_place(text):
    assert len(fold(text)) == len(text)


def test_the_lexicons_are_whole():
    assert set(values_of("promotion")) | {"none"} == set(STATUSES)
    for name in LEXICONS:
        assert load(name)
    for part in ("gender", "age_band", "life_stage", "scene"):
        assert len(values_of("audience", part)) >= 3


def test_every_phrase_finds_itself():
    tables = [
        load("promotion"),
        load("style"),
        load("selling_points"),
        *load("audience").values(),
        *(load("entities")[k] for k in ("material", "colour", "size")),
    ]
    for table in tables:
        rules = compile_rules(table)
        for value, entry in table.items():
            for phrase in entry.get("phrases", ()):
                found = find(f"xx {phrase}, yy", rules)
                assert value in {match.value for match in found}, phrase
            for pattern in entry.get("patterns", ()):
                re.compile(pattern)
