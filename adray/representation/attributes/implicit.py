"""Promotion, audience, style and selling points, read from a creative's texts by lexicon."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from adray.representation.attributes.lexicon import Match, Rule, compile_rules, find, load
from adray.representation.attributes.values import AUDIENCE, UNKNOWN, Audience, ReadValue, Source, Text

_SILENCE = 0.6
"""Confidence that a creative promises nothing when its texts were read and name no offer: OCR and lexicon may have missed one."""
_DENIAL = 0.9
"""Confidence of `none` where a text says so."""

Found = tuple[Text, Match]


def read_promotion(texts: Sequence[Text]) -> ReadValue:
    """What a creative promises.

    Of several promises the most binding counts, in the lexicon's order: presale, coupon, gift, discount, limited time,
    new arrival.

    Args:
        texts: Its texts.

    Returns:
        A status with its evidence. `none` where there are texts and none promises anything; `unknown` without texts.
    """
    rules = _rules("promotion")
    found = [(text, match) for text in texts for match in find(text.text, rules)]
    promised = [(text, match) for text, match in found if match.negated_from is None]
    for rule in rules:
        own = [(text, match) for text, match in promised if match.value == rule.value]
        if own:
            return _value(rule.value, own)
    if found:
        text, match = found[0]
        return ReadValue("none", text.text[match.negated_from : match.end], text.source, _DENIAL * text.confidence)
    if texts:
        return ReadValue("none", None, texts[0].source, _SILENCE)
    return ReadValue()


def read_audience(texts: Sequence[Text]) -> Audience:
    """Whom a creative addresses; each part is `unknown` unless a phrase tells."""
    parts = {part: _strongest(_positive(texts, _rules("audience", part))) for part in AUDIENCE}
    genders = {match.value for _, match in _positive(texts, _rules("audience", "gender"))}
    if {"female", "male"} <= genders and parts["gender"].value != "unisex":
        gender = parts["gender"]
        parts["gender"] = ReadValue("unisex", gender.evidence, gender.source, gender.confidence)
    return Audience(**parts)


def read_style(texts: Sequence[Text]) -> ReadValue:
    """The style that most phrases speak for, or `unknown`."""
    return _strongest(_positive(texts, _rules("style")))


def read_selling_points(texts: Sequence[Text]) -> tuple[ReadValue, ...]:
    """What a creative claims: each claim once, in the order of the texts."""
    by_value: dict[str, list[Found]] = defaultdict(list)
    for text, match in _positive(texts, _rules("selling_points")):
        by_value[match.value].append((text, match))
    return tuple(_value(value, found) for value, found in by_value.items())


def _positive(texts: Sequence[Text], rules: list[Rule]) -> list[Found]:
    return [(text, match) for text in texts for match in find(text.text, rules) if match.negated_from is None]


def _strongest(found: Sequence[Found]) -> ReadValue:
    """The value with the most confidence; of equal ones the first found."""
    by_value: dict[str, list[Found]] = defaultdict(list)
    for text, match in found:
        by_value[match.value].append((text, match))
    values = [_value(value, own) for value, own in by_value.items()]
    return max(values, key=lambda value: value.confidence, default=ReadValue(UNKNOWN))


def _value(value: str, found: Sequence[Found]) -> ReadValue:
    """One value of several phrases: each is taken as independent evidence (noisy or); the surest phrase is shown."""
    confidence = 1.0 - math.prod(1.0 - match.confidence * text.confidence for text, match in found)
    text, match = max(found, key=lambda one: one[0].confidence * one[1].confidence)
    source: Source = text.source
    return ReadValue(value, text.text[match.start : match.end], source, confidence)


@cache
def _rules(name: str, part: str | None = None) -> list[Rule]:
    table: dict[str, Any] = load(name)
    return compile_rules(table if part is None else table[part])


def values_of(name: str, part: str | None = None) -> list[str]:
    """The closed set of a lexicon's values."""
    table = load(name)
    return list(table if part is None else table[part])
