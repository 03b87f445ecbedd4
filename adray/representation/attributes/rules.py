"""Extractors that measure and look up; they need no training and no GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from adray.representation.attributes import background
from adray.representation.attributes.background import measure_background
from adray.representation.attributes.entities import EntityReader
from adray.representation.attributes.extractor import Extractor, Item
from adray.representation.attributes.implicit import read_audience, read_promotion, read_selling_points, read_style
from adray.representation.attributes.lexicon import lexicons_hash
from adray.representation.attributes.logos import LogoConfig, LogoFinder
from adray.representation.attributes.ocr import OcrConfig, TextReader, models_hash
from adray.representation.attributes.palette import PALETTE
from adray.representation.attributes.values import Attributes, Text, texts_of


class OcrExtractor(Extractor):
    """Reads `text_boxes`."""

    stage = "ocr"

    def __init__(self, config: OcrConfig) -> None:
        self._config = config
        self._reader = TextReader(config)

    def extract(self, items: Sequence[Item], known: Sequence[Attributes]) -> list[Mapping[str, Any]]:
        """Lines of text of each picture."""
        return [{} if item.picture is None else {"text_boxes": self._reader.read(item.picture)} for item in items]

    def identity(self) -> Mapping[str, Any]:
        """Settings and models."""
        return self._config.model_dump(mode="json", exclude={"threads"}) | {"models": models_hash()}


class ColourExtractor(Extractor):
    """Measures `background_colour`; texts that were found before are left out of it."""

    stage = "colour"

    def extract(self, items: Sequence[Item], known: Sequence[Attributes]) -> list[Mapping[str, Any]]:
        """The background of each picture."""
        found: list[Mapping[str, Any]] = []
        for item, attributes in zip(items, known, strict=True):
            polygons = [box.polygon for box in attributes.text_boxes]
            found.append({} if item.picture is None else {"background_colour": measure_background(item.picture, polygons)})
        return found

    def identity(self) -> Mapping[str, Any]:
        """Palette and thresholds."""
        names = ("LONG_SIDE", "FRAME", "TOLERANCE", "LEAST_BORDER_SHARE", "GREATEST_DISPERSION")
        return {name.lower(): getattr(background, name) for name in names} | {"palette": [[c.name, *c.anchors] for c in PALETTE]}


class LogoExtractor(Extractor):
    """Finds `logos`."""

    stage = "logos"

    def __init__(self, config: LogoConfig) -> None:
        self._config = config
        self._finder = LogoFinder(config)

    def extract(self, items: Sequence[Item], known: Sequence[Attributes]) -> list[Mapping[str, Any]]:
        """The logos of each picture."""
        found: list[Mapping[str, Any]] = []
        for item, attributes in zip(items, known, strict=True):
            if item.picture is None:
                found.append({})
            else:
                logos = self._finder.find(item.picture, attributes.background_colour, attributes.text_boxes)
                found.append({"logos": logos})
        return found

    def identity(self) -> Mapping[str, Any]:
        """Settings, the gallery's content and the threshold learned from it."""
        values = self._config.model_dump(mode="json", exclude={"gallery"})
        return values | {"gallery": self._finder.gallery.content, "threshold": round(self._finder.gallery.threshold, 4)}


class LexiconExtractor(Extractor):
    """Reads entities, promotion, audience, style and selling points from title, copy and the picture's texts.

    Args:
        fields: Those of them that are wanted.
        brands: Brand names.
    """

    stage = "lexicon"

    def __init__(self, fields: Collection[str], brands: Iterable[str] = ()) -> None:
        self._brands = sorted(set(brands))
        readers: dict[str, Callable[[Sequence[Text]], Any]] = {
            "entities": EntityReader(self._brands).read,
            "promotion": read_promotion,
            "audience": read_audience,
            "style": read_style,
            "selling_points": read_selling_points,
        }
        self._readers = {field: reader for field, reader in readers.items() if field in fields}

    def extract(self, items: Sequence[Item], known: Sequence[Attributes]) -> list[Mapping[str, Any]]:
        """The wanted fields of each creative."""
        found: list[Mapping[str, Any]] = []
        for item, attributes in zip(items, known, strict=True):
            texts = texts_of(item.title, item.copy, attributes.text_boxes)
            found.append({field: reader(texts) for field, reader in self._readers.items()})
        return found

    def identity(self) -> Mapping[str, Any]:
        """Lexicons, brands and fields."""
        return {"lexicons": lexicons_hash(), "brands": self._brands, "fields": sorted(self._readers)}
