"""Products of a world of annotated pictures: a cut-out, a title, and a true height that the title tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from adray.data.images import ImageRowError, decode_image
from adray.data.sources import PICTURE_SUFFIXES
from adray.data.storage import find_files
from adray.errors import DataError
from adray.simulation.annotations_config import AnnotationsConfig
from adray.simulation.artwork import Look, draw_cutout
from adray.simulation.catalogue import hsv_to_rgb
from adray.simulation.vocabulary import BRANDS, CATEGORIES

SMALL, LARGE = 0, 1
SIZE_WORDS = (("mini", "pocket", "travel", "compact", "tiny"), ("giant", "full-size", "jumbo", "oversized", "floor"))
"""What a title calls a small and a large product."""
HEIGHTS_CM = (15.0, 90.0)
"""Median true height of a small and a large product."""
NO_PART, LEGS, BASE, ARM, KNOB = range(5)
"""What a product may own, and a scene may wrongly grow onto it."""

_MASTER = 160
_OPAQUE = 128
"""Alpha from which a pixel belongs to the product: the threshold 0.5 of the published pipeline."""


@dataclass(frozen=True)
class AnnotatedProducts:
    """P products.

    Attributes:
        titles: What the shop calls each: brand, size word, noun.
        categories: Their categories.
        height_cm: float64 `[P]`, true height.
        size: int64 `[P]`, SMALL or LARGE.
        part: int64 `[P]`, the part that each owns, drawn behind its cut-out.
        masters: P RGBA pictures, cropped to the product.
        tone: float32 `[P, 3]` in [0, 1], the colour that covers most of each; its part has it too.
        rim: float32 `[P, 3]`, mean colour along its outline.
        palette: float32 `[P, 6, 3]`, tone, rim and four more of its colours.
    """

    titles: Sequence[str]
    categories: Sequence[str]
    height_cm: np.ndarray
    size: np.ndarray
    part: np.ndarray
    masters: Sequence[Image.Image]
    tone: np.ndarray
    rim: np.ndarray
    palette: np.ndarray

    def __len__(self) -> int:
        return len(self.titles)

    def ids(self) -> list[str]:
        """SKU ids."""
        return [f"p{i:06d}" for i in range(len(self))]


def draw_annotated_products(config: AnnotationsConfig, rng: np.random.Generator) -> tuple[AnnotatedProducts, list[tuple[str, str]]]:
    """Draw products, or take their cut-outs from a folder.

    A product's true size is drawn apart from its shape: only the title tells a travel chair from a full-size one.

    Returns:
        The products, and (file, reason) of each picture that could not be used.

    Raises:
        DataError: If the folder holds no picture, or more unusable ones than `quarantine_limit` allows.
    """
    n = config.products
    size = rng.integers(2, size=n)
    part = np.where(rng.random(n) < config.parts_share, rng.integers(LEGS, KNOB + 1, size=n), NO_PART)
    height = np.array(HEIGHTS_CM)[size] * np.exp(rng.normal(0.0, 0.08, n))
    words = [SIZE_WORDS[s][w] for s, w in zip(size, rng.integers(len(SIZE_WORDS[0]), size=n), strict=True)]
    brands = [BRANDS[b] for b in rng.integers(len(BRANDS), size=n)]
    lost: list[tuple[str, str]] = []
    if config.cutouts.path is None:
        nouns, categories, masters = _drawn(n, config.size, rng)
    else:
        found, lost = read_cutouts(config.cutouts.path, config.cutouts.quarantine_limit)
        names = [list(found)[i % len(found)] for i in range(n)]
        masters, nouns, categories = [found[name] for name in names], [_words(name) for name in names], ["other"] * n
    titles = [f"{brand} {word} {noun}" for brand, word, noun in zip(brands, words, nouns, strict=True)]
    colours = [dominant_colours(np.asarray(master)) for master in masters]
    palette = np.stack(colours)
    return AnnotatedProducts(titles, categories, np.round(height, 1), size, part, masters, palette[:, 0], palette[:, 1], palette), lost


def _drawn(n: int, size: int, rng: np.random.Generator) -> tuple[list[str], list[str], list[Image.Image]]:
    category, noun = rng.integers(len(CATEGORIES), size=n), rng.integers(2, size=n)
    colours = hsv_to_rgb(rng.random((n, 2)), rng.uniform(0.45, 0.9, (n, 2)), rng.uniform(0.45, 0.9, (n, 2)))
    shapes = rng.uniform(-1.0, 1.0, n)
    masters = []
    # No product is higher than half a picture.
    side = min(max(size, 64), 2 * _MASTER)
    for c, (main, accent), shape in zip(category, colours, shapes, strict=True):
        look = Look(tuple(map(int, main)), tuple(map(int, accent)), float(shape))  # type: ignore[arg-type]
        masters.append(crop_to_product(np.asarray(draw_cutout(CATEGORIES[c].name, look, side))))
    return [CATEGORIES[c].nouns[k] for c, k in zip(category, noun, strict=True)], [CATEGORIES[c].name for c in category], masters


def read_cutouts(path: str, limit: float) -> tuple[dict[str, Image.Image], list[tuple[str, str]]]:
    """Cut-outs from a folder, cropped to the product and brought to at most 160 pixels.

    Args:
        path: Folder, glob or URI.
        limit: Greatest share of unusable files.

    Returns:
        File name without ending -> cut-out, in the order of the names; and (file, reason) of each unusable file.

    Raises:
        DataError: If nothing is there, or too much of it is unusable.
    """
    filesystem, files = find_files(path, PICTURE_SUFFIXES)
    found: dict[str, Image.Image] = {}
    lost: list[tuple[str, str]] = []
    for file in files:
        try:
            with filesystem.open_input_stream(file) as stream:
                found[file.rsplit("/", 1)[-1].rsplit(".", 1)[0]] = crop_to_product(decode_image(stream.read()))
        except (DataError, OSError) as error:
            lost.append((file, error.problem if isinstance(error, DataError) else str(error)))
    if not found or len(lost) > limit * len(files):
        raise DataError(
            f"{path}: {len(lost)} of {len(files)} files have no usable cut-out, first {lost[0][0]}: {lost[0][1]}",
            "cut the products out (RGBA), take the files out, or raise cutouts.quarantine_limit",
        )
    return found, lost


def crop_to_product(pixels: np.ndarray) -> Image.Image:
    """A decoded cut-out cropped to the box of its opaque pixels.

    Args:
        pixels: uint8 `[height, width, 3 or 4]`.

    Raises:
        ImageRowError: If there is no alpha channel, or no pixel is opaque enough to be product.
    """
    if pixels.shape[2] != 4:
        raise ImageRowError("the product picture has no alpha channel", "")
    rows, columns = (np.flatnonzero((pixels[..., 3] >= _OPAQUE).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ImageRowError("the product picture is empty: no pixel has alpha 128 or more", "")
    cropped = Image.fromarray(np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))
    cropped.thumbnail((_MASTER, _MASTER), Image.Resampling.LANCZOS)
    return cropped


def dominant_colours(pixels: np.ndarray) -> np.ndarray:
    """A cut-out's tone (the mean of its most frequent colour, of 8 levels a channel), its rim, and four more of its colours.

    Args:
        pixels: uint8 `[height, width, 4]`.

    Returns:
        float32 `[6, 3]` in [0, 1].
    """
    opaque = pixels[..., 3] >= _OPAQUE
    if not opaque.any():
        # Reducing a thin product may thin its alpha too.
        opaque = pixels[..., 3] == pixels[..., 3].max()
    colours = pixels[..., :3][opaque]
    code = (colours >> 5).astype(np.int64) @ np.array([64, 8, 1])
    tone = colours[code == np.bincount(code).argmax()].mean(axis=0)
    padded = np.pad(opaque, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rim = pixels[..., :3][opaque & ~inner].mean(axis=0)
    more = colours[np.linspace(0, len(colours) - 1, 6).astype(int)[1:-1]]
    return np.concatenate([[tone, rim], more]).astype(np.float32) / np.float32(255)


def _words(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").split()) or "product"
