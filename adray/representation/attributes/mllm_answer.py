"""The form of a language model's answer: one pydantic model is schema, grammar and check.

The schema is shown in the prompt, its grammar allows the answer's tokens, and the model checks what came out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from adray.representation.attributes.implicit import values_of
from adray.representation.attributes.lexicon import load
from adray.representation.attributes.values import AUDIENCE, STATUSES, UNKNOWN, Audience, Entity, ReadValue, Text

_LONGEST_EVIDENCE = 60
_MOST_ITEMS = 6


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _closed(values: Sequence[str]) -> Any:
    options = (*values, UNKNOWN)
    return Literal[options]


def answer_model(fields: Collection[str]) -> type[BaseModel]:
    """The answer's model.

    Args:
        fields: Of `entities`, `promotion`, `audience`, `style`, `selling_points`.

    Returns:
        A model whose JSON schema has closed sets with `unknown` in each, and bounded lists and texts.
    """
    text = Annotated[str, Field(max_length=_LONGEST_EVIDENCE)]
    promotion = create_model("Promotion", __base__=_Answer, status=(_closed(STATUSES), ...), evidence=(text | None, ...))
    parts: dict[str, Any] = {part: (_closed(values_of("audience", part)), ...) for part in AUDIENCE}
    audience = create_model("Audience", __base__=_Answer, **parts)
    types = ("brand", *(kind for kind in load("entities") if kind != "numbers"), *load("entities")["numbers"])
    kinds = tuple(dict.fromkeys(types))
    told: dict[str, Any] = {"type": (Literal[kinds], ...), "text": (text, ...)}
    entity = create_model("Entity", __base__=_Answer, **told)
    several = Field(max_length=_MOST_ITEMS)
    points: Any = Literal[tuple(values_of("selling_points"))]
    known: dict[str, Any] = {
        "promotion": (promotion, ...),
        "audience": (audience, ...),
        "style": (_closed(values_of("style")), ...),
        "selling_points": (Annotated[list[points], several], ...),
        "entities": (Annotated[list[entity], several], ...),
    }
    wanted = {name: form for name, form in known.items() if name in fields}
    return create_model("Attributes", __base__=_Answer, **wanted)


def check_answer(model: type[BaseModel], text: str) -> dict[str, Any] | None:
    """The parsed answer, or None where it is not of the form."""
    try:
        return model.model_validate_json(text).model_dump()
    except ValidationError:
        return None


def value_spans(text: str) -> dict[str, tuple[int, int]]:
    """Where the value of each top-level field of a valid JSON object begins and ends, in characters."""
    decoder = json.JSONDecoder()
    spans: dict[str, tuple[int, int]] = {}
    place = text.index("{") + 1
    while True:
        place += len(text[place:]) - len(text[place:].lstrip(" \n\r\t,"))
        if text[place] == "}":
            return spans
        name, place = decoder.raw_decode(text, place)
        place = text.index(":", place) + 1
        place += len(text[place:]) - len(text[place:].lstrip())
        _, end = decoder.raw_decode(text, place)
        spans[name] = (place, end)
        place = end


def field_confidences(text: str, ends: Sequence[int], log_probs: Sequence[float]) -> dict[str, float]:
    """How sure the model was of each field: the geometric mean of the probabilities of its value's tokens.

    Args:
        text: A valid answer.
        ends: Where each token of it ends, in characters.
        log_probs: Natural log-probability of each token, before any grammar.
    """
    found = {}
    for name, (start, end) in value_spans(text).items():
        # A token counts for a value when any of its characters does.
        own = [p for p, stop, begin in zip(log_probs, ends, [0, *ends[:-1]], strict=True) if stop > start and begin < end]
        found[name] = math.exp(sum(own) / len(own)) if own else 0.0
    return found


def answer_values(answer: Mapping[str, Any], confidences: Mapping[str, float], texts: Sequence[Text], least: float) -> dict[str, Any]:
    """An answer as fields of `Attributes`; what it names and no text holds is left out.

    Args:
        answer: A checked answer.
        confidences: By field.
        texts: The creative's texts: evidence and entities must stand in one of them.
        least: Fields of less confidence stay unknown.
    """
    found: dict[str, Any] = {}
    sure = {name: confidences.get(name, 0.0) for name in answer if confidences.get(name, 0.0) >= least}
    for name in ("promotion", "style"):
        if name in sure:
            value = answer[name]["status"] if name == "promotion" else answer[name]
            evidence = answer[name]["evidence"] if name == "promotion" else None
            there = evidence if evidence and any(evidence in text.text for text in texts) else None
            found[name] = _value(value, there, sure[name])
    if "audience" in sure:
        found["audience"] = Audience(**{part: _value(answer["audience"][part], None, sure["audience"]) for part in AUDIENCE})
    if "selling_points" in sure:
        points = dict.fromkeys(answer["selling_points"])
        found["selling_points"] = tuple(_value(value, None, sure["selling_points"]) for value in points)
    if "entities" in sure:
        named = [_entity(one, texts, sure["entities"]) for one in answer["entities"]]
        found["entities"] = tuple(one for one in named if one is not None)
    return found


def _value(value: str, evidence: str | None, confidence: float) -> ReadValue:
    return ReadValue() if value == UNKNOWN else ReadValue(value, evidence, "model", confidence)


def _entity(named: Mapping[str, str], texts: Sequence[Text], confidence: float) -> Entity | None:
    """An entity at its first place in the texts; None where no text holds it: that would be an invention."""
    name = named["text"]
    for text in texts:
        start = text.text.find(name)
        if name.strip() and start >= 0:
            return Entity(named["type"], name.lower(), name, start, start + len(name), text.box, text.source, confidence * text.confidence)
    return None
