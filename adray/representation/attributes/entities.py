"""Named things in titles, copy and pictures' texts, with their exact places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from adray.representation.attributes.lexicon import Rule, compile_rules, find, fold, load
from adray.representation.attributes.values import Entity, Text

_BRAND = 0.95
"""Confidence of a brand that the catalogue names."""
_NUMBER = 0.9
"""Confidence of a number with its unit."""
_TYPES = ("material", "colour", "size")


class EntityReader:
    """Finds entities by the package's lexicons, number patterns and a list of brands.

    Brands are an open set, so none come with the package.

    Args:
        brands: Brand names as written.
    """

    def __init__(self, brands: Iterable[str] = ()) -> None:
        names = sorted({brand.strip() for brand in brands if brand.strip()})
        self._brands = {_key(name): name for name in names}
        # One rule for all brands: a catalogue may have thousands.
        phrases = {"brand": {"confidence": _BRAND, "phrases": [fold(name) for name in names]}}
        self._rules = [*(compile_rules(phrases) if names else ()), *_own_rules()]

    def read(self, texts: Sequence[Text]) -> tuple[Entity, ...]:
        """Entities of some texts; where two overlap the longer one counts.

        Args:
            texts: A creative's texts.

        Returns:
            Entities in the order of the texts. For each, `text.text[start:end]` is its own writing.
        """
        found = []
        for text in texts:
            for match in find(text.text, self._rules):
                kind, _, value = match.value.partition("=")
                own = text.text[match.start : match.end]
                confidence = match.confidence * text.confidence
                value = value or (self._brand(own) if kind == "brand" else _normal(own))
                found.append(Entity(kind, value, own, match.start, match.end, text.box, text.source, confidence))
        return tuple(found)

    def _brand(self, own: str) -> str:
        """The catalogue's writing of a brand, which a text may have put in the plural."""
        key = _key(own)
        return next((self._brands[k] for k in (key, key[:-1], key[:-2]) if k in self._brands), own)


def _key(name: str) -> str:
    """What all writings of a brand have in common."""
    return re.sub(r"[\s\-]+", "", fold(name)).lower()


@cache
def _own_rules() -> tuple[Rule, ...]:
    table = load("entities")
    rules = []
    for kind in _TYPES:
        rules += [Rule(f"{kind}={rule.value}", rule.pattern, rule.confidence) for rule in compile_rules(table[kind])]
    for kind, patterns in table["numbers"].items():
        # A number is taken whole: not the end of a longer one.
        joined = "|".join(f"(?:{pattern})" for pattern in patterns)
        rules.append(Rule(kind, re.compile(rf"(?<![\d.])(?:{joined})", re.IGNORECASE), _NUMBER))
    return tuple(rules)


def _normal(text: str) -> str:
    """Numbers with units in one writing: `500 ML` and `５００ml` are the same."""
    return re.sub(r"\s+", "", fold(text)).lower()
