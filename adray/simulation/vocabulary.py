"""The words and elements that all products and creatives of a world share."""

from __future__ import annotations

from dataclasses import dataclass

SLOTS = ("background", "layout", "title", "selling_point", "badge")
"""Parts of a creative, in the order of every element matrix."""

TITLES = {
    "name": "{brand} {noun}",
    "new": "New {noun}",
    "smart": "Smart {noun}",
    "premium": "Premium {noun}",
    "everyday": "Everyday {noun}",
    "gift": "Gift idea: {noun}",
    "eco": "Green {noun}",
    "pro": "Pro {noun}",
    "love": "Love your {noun}",
    "iconic": "Iconic {brand}",
}
"""Title templates by element."""

SELLING_POINTS = {
    "price": "Only ${price}",
    "discount": "30% off today",
    "shipping": "Free shipping",
    "warranty": "3-year warranty",
    "rating": "Rated 4.8 of 5",
    "returns": "Easy returns",
    "fast": "Ships in 24 h",
    "bundle": "Buy 2, get 1",
    "limited": "Few left",
    "durable": "Made to last",
}
"""Selling-point templates by element."""

BADGES = {"none": "", "sale": "SALE", "new": "NEW", "hot": "HOT", "eco": "ECO", "top": "TOP"}
"""Badge texts by element."""

BACKGROUNDS = ("studio", "sunset", "ocean", "night", "stripes", "confetti", "shelf", "rays")
LAYOUTS = ("stacked", "left", "right", "hero")

ELEMENTS: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "layout": LAYOUTS,
    "title": tuple(TITLES),
    "selling_point": tuple(SELLING_POINTS),
    "badge": tuple(BADGES),
}
"""The elements of each slot."""

AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
CITIES = tuple(f"city-{i:02d}" for i in range(1, 11))
GENDERS = ("female", "male")


@dataclass(frozen=True)
class Category:
    """A product category.

    Attributes:
        name: As in the tables; also names the drawing in `artwork`.
        nouns: What such a product is called in copy.
        price: Median price.
    """

    name: str
    nouns: tuple[str, ...]
    price: float


CATEGORIES = (
    Category("shoes", ("Sneaker", "Runner"), 80.0),
    Category("kettle", ("Kettle", "Teapot"), 35.0),
    Category("headphones", ("Headset", "Earphones"), 90.0),
    Category("phone", ("Phone", "Mobile"), 400.0),
    Category("mug", ("Mug", "Cup"), 12.0),
    Category("backpack", ("Backpack", "Daypack"), 60.0),
    Category("lamp", ("Lamp", "Desk light"), 45.0),
    Category("watch", ("Watch", "Timer"), 150.0),
    Category("shirt", ("Shirt", "Tee"), 25.0),
    Category("bottle", ("Bottle", "Flask"), 20.0),
    Category("chair", ("Chair", "Seat"), 120.0),
    Category("camera", ("Camera", "Camcorder"), 500.0),
)

_STARTS = ("Al", "Bo", "Cer", "Dun", "El", "Fen", "Gal", "Hov")
_ENDS = ("ta", "rix", "mo", "vik", "lan", "zo")
BRANDS = tuple(start + end for end in _ENDS for start in _STARTS)
"""Made-up brand names."""
