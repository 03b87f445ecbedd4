"""The values read off a creative, each with where it was read and how sure the reader is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = "1"
"""Raised when a column of the table changes its meaning."""

UNKNOWN = "unknown"
"""A value that could not be read; never a guess."""

Source = Literal["title", "copy", "ocr", "image", "model", "none"]
"""Where a value was read; `none` where nothing was."""

STATUSES = ("none", "discount", "coupon", "gift", "limited_time", "new_arrival", "presale")
"""What a creative may promise. `none` says that its texts were read and promise nothing."""

AUDIENCE = ("gender", "age_band", "life_stage", "scene")
"""What is told of the people a creative addresses."""


@dataclass(frozen=True)
class ReadValue:
    """One value of a closed set.

    Attributes:
        value: The value, or `unknown`.
        evidence: The text it was read from, in its own writing.
        source: Where it was read.
        confidence: In [0, 1]; 0 for `unknown`.
    """

    value: str = UNKNOWN
    evidence: str | None = None
    source: Source = "none"
    confidence: float = 0.0


@dataclass(frozen=True)
class Background:
    """The background's colour.

    Attributes:
        lab: CIELab (D65) of the dominant colour; empty where unknown.
        name: A name of the palette, `complex` where no one colour stands out, or `unknown`.
        coverage: Share of the picture's area that has the colour and is connected to its border.
        border_share: Share of the visible border that has the colour.
        dispersion: Mean CIEDE2000 of the background's pixels from `lab`.
        source: `image`, `model` or `none`.
        confidence: In [0, 1].
    """

    lab: tuple[float, ...] = ()
    name: str = UNKNOWN
    coverage: float = 0.0
    border_share: float = 0.0
    dispersion: float = 0.0
    source: Source = "none"
    confidence: float = 0.0


@dataclass(frozen=True)
class Entity:
    """A named thing in a text.

    Attributes:
        type: `brand`, `material`, `colour`, `size`, `price`, `percentage` or a quantity such as `volume`.
        value: Its normal form, the same in all languages: `cotton` for `纯棉`.
        text: Its own writing.
        start: First character (Unicode code point) in the title, copy or text box.
        end: One past the last.
        text_box: Index of the text box with source `ocr`, else None.
        source: `title`, `copy`, `ocr` or `model`.
        confidence: In [0, 1].
    """

    type: str
    value: str
    text: str
    start: int
    end: int
    text_box: int | None
    source: Source
    confidence: float


@dataclass(frozen=True)
class Logo:
    """A brand's sign.

    Attributes:
        brand: A brand of the gallery.
        box: left, top, right, bottom in pixels.
        score: Inner product with the gallery's nearest picture, in [-1, 1].
        source: `image`.
        confidence: In [0, 1]: how far the score is above the threshold of rejection.
    """

    brand: str
    box: tuple[float, float, float, float]
    score: float
    source: Source
    confidence: float


@dataclass(frozen=True)
class TextBox:
    """A line of text in the picture.

    Attributes:
        polygon: x, y of its corners in pixels, clockwise from the top left.
        text: What it says.
        score: The recogniser's mean character probability.
        source: `ocr`.
        confidence: The same as `score`.
    """

    polygon: tuple[float, ...]
    text: str
    score: float
    source: Source
    confidence: float


@dataclass(frozen=True)
class Audience:
    """Whom a creative addresses."""

    gender: ReadValue = ReadValue()
    age_band: ReadValue = ReadValue()
    life_stage: ReadValue = ReadValue()
    scene: ReadValue = ReadValue()


@dataclass(frozen=True)
class Attributes:
    """All that is known of one creative.

    Attributes:
        background_colour: Of its picture.
        entities: Of its texts, in their order.
        logos: Of its picture.
        text_boxes: Of its picture, from top to bottom.
        promotion: One of `STATUSES`, or `unknown`.
        audience: Whom it addresses.
        style: How it looks and speaks.
        selling_points: What it claims, in the order of its texts.
        raw: A language model's answers that were refused.
    """

    background_colour: Background = Background()
    entities: tuple[Entity, ...] = ()
    logos: tuple[Logo, ...] = ()
    text_boxes: tuple[TextBox, ...] = ()
    promotion: ReadValue = ReadValue()
    audience: Audience = Audience()
    style: ReadValue = ReadValue()
    selling_points: tuple[ReadValue, ...] = ()
    raw: str | None = None


@dataclass(frozen=True)
class Text:
    """A text of a creative.

    Attributes:
        source: `title`, `copy` or `ocr`.
        text: The characters that offsets count.
        box: Index of the text box with source `ocr`.
        confidence: How sure it is that the text says this; 1 for given texts.
    """

    source: Source
    text: str
    box: int | None = None
    confidence: float = 1.0


def texts_of(title: str, copy: str, boxes: Sequence[TextBox]) -> list[Text]:
    """All texts of a creative that hold anything."""
    texts = [Text("title", title), Text("copy", copy)]
    texts += [Text("ocr", box.text, index, box.confidence) for index, box in enumerate(boxes)]
    return [text for text in texts if text.text.strip()]
