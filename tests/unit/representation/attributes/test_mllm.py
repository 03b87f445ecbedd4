"""The language model's path with tiny random weights: every answer is valid or unknown with its text kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adray.config import validate
from adray.representation.attributes.extractor import Item
from adray.representation.attributes.mllm import MllmExtractor
from adray.representation.attributes.mllm_answer import (
    answer_model,
    answer_values,
    check_answer,
    field_confidences,
    value_spans,
)
from adray.representation.attributes.mllm_config import MllmExtractorConfig
from adray.representation.attributes.values import STATUSES, Attributes, Text, TextBox

FIELDS = frozenset({"entities", "promotion", "audience", "style", "selling_points"})
VALID = (
    '{"promotion":{"status":"discount","evidence":"30% off"},"audience":{"gender":"female","age_band":"unknown",'
    '"life_stage":"unknown","scene":"party"},"style":"retro","selling_points":["durable","durable"],'
    '"entities":[{"type":"colour","text":"Red"},{"type":"brand","text":"Nowhere"}]}'
)
TEXTS = [Text("title", "Red shoe"), Text("ocr", "30% off", 0, 0.5)]


def tiny(**more) -> MllmExtractorConfig:
    model = {"architecture": {"family": more.pop("family", "qwen3_vl"), "tokenizer": "bytes"}, "max_pixels": 64 * 32 * 32}
    return validate(MllmExtractorConfig, {"model": model, "most_tokens": 700, **more}, "test")


ITEMS = [Item("a", "Red shoe", "30% off", np.zeros((40, 60, 3), np.uint8)), Item("b", "", "קנה 🎉", None)]


@pytest.mark.parametrize("family", ["qwen3_vl", "smolvlm"])
def test_answers_of_random_weights_validate(family):
    extractor = MllmExtractor(tiny(family=family, retries=3, least_confidence=0.0), {"promotion", "style"})
    writer, answers = extractor._writer, []
    write = writer.write
    writer.write = lambda *given: answers.append(write(*given)) or answers[-1]
    found = extractor.extract(ITEMS, [Attributes(), Attributes()])
    for values, answer in zip(found, answers, strict=True):
        assert answer.finished and check_answer(answer_model({"promotion", "style"}), answer.text)
        assert len(answer.ends) == len(answer.log_probs) and answer.ends[-1] == len(answer.text)
        assert values["promotion"].value in {*STATUSES, "unknown"} and "raw" not in values
        # Random weights over some 300 tokens: hardly any token is likely.
        assert values["style"].confidence < 0.05
    again = MllmExtractor(tiny(family=family, retries=3, least_confidence=0.0), {"promotion", "style"})
    assert again.extract(ITEMS[::-1], [Attributes(), Attributes()])[::-1] == found
    assert again.identity() == extractor.identity()


def test_what_the_model_is_not_sure_of_is_unknown():
    extractor = MllmExtractor(tiny(), {"promotion", "style"})
    assert extractor.extract(ITEMS[:1], [Attributes()]) == [{}]


@pytest.mark.parametrize("retries", [0, 2])
def test_invalid_answers_are_asked_again_then_unknown_with_the_text_kept(retries):
    """Without a grammar random weights never write JSON."""
    extractor = MllmExtractor(tiny(retries=retries, constrained=False, most_tokens=12), FIELDS)
    writer, asked, texts = extractor._writer, [], []
    write = writer.write

    def noted(picture, text, schema, most, temperature):
        asked.append((schema, temperature))
        texts.append(write(picture, text, schema, most, temperature).text)
        return write(picture, text, schema, most, temperature)

    writer.write = noted
    [found] = extractor.extract(ITEMS[:1], [Attributes()])
    assert set(found) == {"raw"} and found["raw"]
    assert asked == [(None, None)] + [(None, 0.7)] * retries
    assert len(set(texts)) == retries + 1


def test_a_valid_answer_after_an_invalid_one_counts(monkeypatch):
    from adray.representation.attributes.mllm_generate import Answer

    extractor = MllmExtractor(tiny(), FIELDS)
    answers = [Answer("{", (1,), (-1.0,), True), Answer(VALID, tuple(range(1, len(VALID) + 1)), (-0.1,) * len(VALID), True)]
    extractor._writer.write = lambda *given: answers.pop(0)
    known = Attributes(text_boxes=(TextBox((0.0,) * 8, "30% off", 0.9, "ocr", 0.9),))
    [found] = extractor.extract(ITEMS[:1], [known])
    assert found["promotion"].value == "discount" and found["promotion"].confidence == pytest.approx(math.exp(-0.1))
    # Cut off before its end, the same text is refused.
    answers = [Answer(VALID, (), (), False)] * 3
    [found] = extractor.extract(ITEMS[:1], [known])
    assert found == {"raw": VALID}


def test_what_no_text_holds_is_left_out():
    answer = check_answer(answer_model(FIELDS), VALID)
    found = answer_values(answer, dict.fromkeys(answer, 0.8), TEXTS, 0.5)
    assert (found["promotion"].evidence, found["promotion"].source) == ("30% off", "model")
    assert [(e.text, e.start, e.end, e.source) for e in found["entities"]] == [("Red", 0, 3, "title")]
    assert [p.value for p in found["selling_points"]] == ["durable"]
    assert found["audience"].gender.value == "female" and found["audience"].age_band.confidence == 0.0
    invented = answer_values(answer, dict.fromkeys(answer, 0.8), TEXTS[:1], 0.5)
    assert invented["promotion"].evidence is None
    assert answer_values(answer, {"style": 0.8}, TEXTS, 0.5).keys() == {"style"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        VALID[:-1],
        VALID.replace("retro", "ugly"),
        VALID.replace('"style"', '"stile"'),
        VALID + "x",
        VALID.replace('"discount"', "3"),
    ],
)
def test_answers_of_another_form_are_refused(text):
    assert check_answer(answer_model(FIELDS), text) is None


def test_a_fields_confidence_is_that_of_its_values_tokens():
    text = '{"style":"retro","selling_points":[]}'
    spans = value_spans(text)
    assert {name: text[a:b] for name, (a, b) in spans.items()} == {"style": '"retro"', "selling_points": "[]"}
    # One token for `{"style":`, two for `"retro"`, one for the rest.
    ends = (9, 12, 16, len(text))
    found = field_confidences(text, ends, (-9.0, -0.2, -0.4, -1.0))
    assert found["style"] == pytest.approx(math.exp(-0.3)) and found["selling_points"] == pytest.approx(math.exp(-1.0))
