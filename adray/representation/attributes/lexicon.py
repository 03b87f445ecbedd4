"""Phrases and patterns in Chinese and English, found in a text with their exact places."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

LEXICONS = ("promotion", "audience", "style", "selling_points", "entities", "negation")
"""The files that come with the package."""

_FOLDER = "representation/attributes/lexicons"
_LATIN = re.compile(r"[A-Za-z0-9]")
_FOLD = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x2019: 0x27, 0x2018: 0x27, 0xFFE5: 0xA5}


@dataclass(frozen=True)
class Match:
    """A phrase found in a text.

    Attributes:
        value: What it speaks for.
        start: First character.
        end: One past the last.
        confidence: How surely the phrase means the value.
        negated_from: Where the negator before it begins; None where there is none.
    """

    value: str
    start: int
    end: int
    confidence: float
    negated_from: int | None = None


@dataclass(frozen=True)
class Rule:
    """One value of a lexicon: its pattern and how surely that means the value."""

    value: str
    pattern: re.Pattern[str]
    confidence: float


def fold(text: str) -> str:
    """Full-width letters and signs made plain, one character for one, so that offsets stay.

    Case is left to the patterns: lower-casing may change a text's length.
    """
    return text.translate(_FOLD)


def find(text: str, rules: Iterable[Rule]) -> list[Match]:
    """Every place where a rule holds, the longest first where two overlap, in the order of the text.

    Args:
        text: Any text.
        rules: In order of preference for places of equal length.

    Returns:
        Matches that do not overlap.
    """
    folded = fold(text)
    found = [Match(rule.value, *hit.span(), rule.confidence) for rule in rules for hit in rule.pattern.finditer(folded) if hit.group()]
    kept: list[Match] = []
    # A stable sort keeps the rules' order among equals.
    for match in sorted(found, key=lambda m: m.start - m.end):
        if all(match.end <= other.start or other.end <= match.start for other in kept):
            kept.append(match)
    return sorted((_with_negation(folded, match) for match in kept), key=lambda m: m.start)


def compile_rules(values: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """Rules of one field.

    Args:
        values: Value -> `confidence`, `phrases` and `patterns`.
    """
    rules = []
    for value, entry in values.items():
        parts = [_phrase(phrase) for phrase in entry.get("phrases", ())] + [f"(?:{p})" for p in entry.get("patterns", ())]
        # The longest alternative must come first: the first that fits is taken.
        parts.sort(key=len, reverse=True)
        rules.append(Rule(value, re.compile("|".join(parts), re.IGNORECASE), float(entry["confidence"])))
    return rules


@cache
def load(name: str) -> dict[str, Any]:
    """One of the package's lexicons, parsed."""
    return dict(yaml.safe_load(_text(name)))


@cache
def lexicons_hash() -> str:
    """First 16 hex digits of the SHA-256 over all lexicons: a part of the extractor's provenance."""
    return hashlib.sha256("\0".join(_text(name) for name in LEXICONS).encode()).hexdigest()[:16]


def _text(name: str) -> str:
    return (files("adray") / _FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def _phrase(phrase: str) -> str:
    """A literal phrase: Latin ones stand alone, may be plural, and their words may have run together, as OCR often reads them."""
    words = [re.escape(word) for word in re.split(r"[\s-]+", phrase)]
    pattern = r"[\s\-]*".join(words)
    if _LATIN.match(phrase[0]):
        pattern = rf"(?<![A-Za-z0-9]){pattern}"
    if _LATIN.match(phrase[-1]):
        plural = "(?:e?s)?" if phrase[-1].isalpha() else ""
        pattern = rf"{pattern}{plural}(?![A-Za-z0-9])"
    return pattern


@dataclass(frozen=True)
class _Negation:
    before: re.Pattern[str]
    never: re.Pattern[str]


@cache
def _negation() -> _Negation:
    table = load("negation")
    chinese, english = table["chinese"], table["english"]
    zh = "(?:" + "|".join(sorted(chinese["negators"], key=len, reverse=True)) + ")"
    fillers = "(?:" + "|".join(sorted(chinese["fillers"], key=len, reverse=True)) + "){0,3}"
    en = r"(?<![a-z])(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in english["negators"]) + ")"
    between = rf"(?:[\s\-]+[a-z']+){{0,{english['words_between']}}}[\s\-]+"
    return _Negation(
        re.compile(rf"(?:{zh}{fillers}\s?|{en}{between})$", re.IGNORECASE),
        re.compile("|".join(re.escape(word) for word in english["never"]), re.IGNORECASE),
    )


def _with_negation(folded: str, match: Match) -> Match:
    before = folded[max(0, match.start - 40) : match.start]
    hit = _negation().before.search(before)
    if hit is None or _negation().never.search(hit.group()):
        return match
    start = match.start - len(before) + hit.start()
    return Match(match.value, match.start, match.end, match.confidence, start)
