"""The extractors that a config names, in the order in which they build on each other."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from adray.representation.attributes.config import AttributesRunConfig
from adray.representation.attributes.extractor import Extractor, Item
from adray.representation.attributes.rules import ColourExtractor, LexiconExtractor, LogoExtractor, OcrExtractor
from adray.representation.attributes.table import Provenance
from adray.representation.attributes.values import SCHEMA_VERSION, Attributes


def build_extractors(config: AttributesRunConfig, brands: Sequence[str], device: str = "cpu") -> list[Extractor]:
    """Build what the config names.

    Args:
        config: The run's config.
        brands: The catalogue's brands.
        device: Where language models compute.

    Raises:
        AdrayError: If a model, gallery or artifact is missing or does not fit.
    """
    fields, rules = config.fields, config.fields.of("rules")
    found: list[Extractor] = []
    if "text_boxes" in rules:
        found.append(OcrExtractor(config.ocr))
    if "background_colour" in rules:
        found.append(ColourExtractor())
    if "logos" in rules and config.logos.gallery is not None:
        found.append(LogoExtractor(config.logos))
    lexicon = rules - {"text_boxes", "background_colour", "logos"}
    if lexicon:
        found.append(LexiconExtractor(lexicon, [*brands, *config.brands]))
    if fields.of("heads") and config.heads is not None:
        from adray.representation.attributes.heads import HeadsExtractor

        found.append(HeadsExtractor(config.heads, fields.of("heads")))
    if fields.of("mllm") and config.mllm is not None:
        from adray.representation.attributes.mllm import MllmExtractor

        found.append(MllmExtractor(config.mllm, fields.of("mllm"), device, config.seed))
    return found


def stages(config: AttributesRunConfig) -> list[str]:
    """Stages of the work in their order, for the throughput log."""
    rules = config.fields.of("rules")
    wanted = {
        "ocr": "text_boxes" in rules,
        "colour": "background_colour" in rules,
        "logos": "logos" in rules and config.logos.gallery is not None,
        "lexicon": bool(rules - {"text_boxes", "background_colour", "logos"}),
        "heads": bool(config.fields.of("heads")),
        "mllm": bool(config.fields.of("mllm")),
    }
    return ["read", "decode", *(name for name, there in wanted.items() if there), "write"]


def provenance_of(extractors: Sequence[Extractor]) -> Provenance:
    """The hash of all that shapes the values, and of the prompt."""
    identity = [SCHEMA_VERSION, [[one.stage, dict(one.identity())] for one in extractors]]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Provenance(digest, next((prompt for one in extractors if (prompt := one.prompt_hash()) is not None), None))


def run_extractors(extractors: Sequence[Extractor], items: Sequence[Item], seconds: dict[str, float]) -> list[Attributes]:
    """Read all fields of some creatives.

    Args:
        extractors: In order.
        items: n creatives.
        seconds: The time of each stage is added to it.

    Returns:
        n attributes.
    """
    found = [Attributes() for _ in items]
    for extractor in extractors:
        start = time.perf_counter()
        try:
            read: Sequence[Mapping[str, object]] = extractor.extract(items, found)
        finally:
            seconds[extractor.stage] = seconds.get(extractor.stage, 0.0) + time.perf_counter() - start
        found = [replace(known, **new) for known, new in zip(found, read, strict=True)]  # type: ignore[arg-type]
    return found
