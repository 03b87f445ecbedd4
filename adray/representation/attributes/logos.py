"""Logos by retrieval: candidates are compared with a gallery of brands' signs, and what is like none of them is refused.

Brands are an open set, so there is no classifier: a brand is added by putting its pictures into a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from PIL import Image
from pydantic import Field

from adray.config import Config, PathStr
from adray.data.images import decode_image
from adray.data.sources import PICTURE_SUFFIXES
from adray.errors import AdrayError, DataError
from adray.representation.attributes.regions import Box, candidate_boxes, overlap
from adray.representation.attributes.values import Background, Logo, TextBox
from adray.representation.creatives import Creatives
from adray.representation.encoders.base import Encoder
from adray.representation.encoders.dual_tower import DualTowerConfig
from adray.representation.encoders.factory import build_encoder, load_encoder

_GROUNDS = ((255, 255, 255), (128, 128, 128), (20, 20, 20))
"""What transparent signs are laid on: they are met on any ground."""
_TURNS = (-6.0, 0.0, 6.0)
"""Degrees by which a sign is turned to learn how alike two pictures of one sign are."""
_MARGIN = 0.06
"""Room left around a sign, as a share of its longer side."""
_SAME_PLACE = 0.2
_BATCH = 32


class LogoConfig(Config):
    """Brands' signs to look for."""

    gallery: PathStr | None = None
    """A folder with one folder of pictures per brand; unset: no logos are sought."""
    encoder: PathStr | None = None
    """Artifact of the encoder whose vectors are compared; unset: EfficientNet-Lite0 as its package has it."""
    false_accept: float = Field(default=0.01, gt=0, lt=0.5)
    """Share of comparisons between different brands that the threshold of rejection would let pass."""
    most_candidates: int = Field(default=24, ge=1, le=200)
    """Places looked at per picture."""


@dataclass(frozen=True)
class Gallery:
    """Vectors of brands' signs.

    Attributes:
        brands: Brand of each vector.
        index: Faiss index of `len(brands)` vectors of length 1, by inner product.
        threshold: Below this inner product a place holds none of the brands.
        content: First 16 hex digits of the SHA-256 over all pictures.
    """

    brands: tuple[str, ...]
    index: faiss.IndexFlatIP
    threshold: float
    content: str


class LogoFinder:
    """Finds the gallery's brands in pictures.

    Args:
        config: The gallery and the encoder.

    Raises:
        DataError: If the gallery has fewer than two brands or an unreadable picture.
        ArtifactError: If the encoder cannot be loaded.
    """

    def __init__(self, config: LogoConfig) -> None:
        if config.gallery is None:
            raise DataError("field 'logos.gallery' is not set", "name a folder with one folder of pictures per brand")
        self._config = config
        # The copy is no part of a sign: an encoder of both sees the picture alone.
        self._encoder = load_encoder(config.encoder) if config.encoder else build_encoder(DualTowerConfig(modalities="image"))
        self._encoder.eval()
        self.gallery = build_gallery(Path(config.gallery), self._encoder, config.false_accept)

    def find(
        self, picture: np.ndarray, background: Background | None = None, texts: Sequence[TextBox] = (), boxes: Sequence[Box] = ()
    ) -> tuple[Logo, ...]:
        """Logos of one picture.

        Args:
            picture: uint8 `[height, width, 3]`, RGB.
            background: Its background, as far as it is known.
            texts: Its lines of text: signs may be words.
            boxes: Places from another detector, looked at besides.

        Returns:
            The places that hold a brand's sign, the surest first, none over another.
        """
        lab = background.lab if background is not None else ()
        places = [*boxes, *(_around(box.polygon) for box in texts), *candidate_boxes(picture, lab, self._config.most_candidates)]
        crops = [(place, crop) for place in places if (crop := _cut(picture, place)) is not None]
        if not crops:
            return ()
        scores, nearest = self.gallery.index.search(embed(self._encoder, [crop for _, crop in crops]), 1)
        threshold = self.gallery.threshold
        found = []
        for (place, _), score, row in zip(crops, scores[:, 0].tolist(), nearest[:, 0].tolist(), strict=True):
            if score >= threshold:
                confidence = min(1.0, 0.5 + 0.5 * (score - threshold) / max(1.0 - threshold, 1e-6))
                found.append(Logo(self.gallery.brands[row], place, score, "image", confidence))
        kept: list[Logo] = []
        for logo in sorted(found, key=lambda one: -one.score):
            if all(overlap(logo.box, other.box) < _SAME_PLACE and not _inside(logo.box, other.box) for other in kept):
                kept.append(logo)
        return tuple(kept)


def build_gallery(folder: Path, encoder: Encoder, false_accept: float) -> Gallery:
    """Read a gallery and learn from itself when to refuse.

    Each sign is compared, slightly turned and on another ground, with the other brands' (strangers) and with its own
    (friends). The threshold is the middle between the strangers' `1 - false_accept` quantile and the friends' 5 % quantile,
    and never below the former.

    Args:
        folder: `<brand>/<picture>`.
        encoder: What makes the vectors.
        false_accept: Share of strangers that may pass.

    Raises:
        DataError: If there are fewer than two brands, or a picture cannot be read.
    """
    signs: list[tuple[str, Image.Image]] = []
    digest = hashlib.sha256()
    for path in gallery_pictures(folder):
        data = path.read_bytes()
        digest.update(path.parent.name.encode() + hashlib.sha256(data).digest())
        try:
            signs.append((path.parent.name, Image.fromarray(decode_image(data)).convert("RGBA")))
        except AdrayError as error:
            raise DataError(f"{path}: {error.problem}", "mend it or take it out of the gallery") from None
    stored = [(brand, _view(sign, ground, 0.0)) for brand, sign in signs for ground in _GROUNDS]
    asked = [(brand, _view(sign, _GROUNDS[(i + j) % 3], turn)) for i, (brand, sign) in enumerate(signs) for j, turn in enumerate(_TURNS)]
    brands = np.array([brand for brand, _ in stored])
    vectors = embed(encoder, [view for _, view in stored])
    scores = embed(encoder, [view for _, view in asked]) @ vectors.T
    own = np.array([brand for brand, _ in asked])[:, None] == brands[None]
    strangers = np.where(own, -1.0, scores).max(axis=1)
    friends = np.where(own, scores, -1.0).max(axis=1)
    refuse = float(np.quantile(strangers, 1.0 - false_accept))
    threshold = max(refuse, (refuse + float(np.quantile(friends, 0.05))) / 2.0)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return Gallery(tuple(brands.tolist()), index, threshold, digest.hexdigest()[:16])


def gallery_pictures(folder: Path) -> list[Path]:
    """The gallery's pictures in a fixed order.

    Raises:
        DataError: If there are fewer than two brands.
    """
    paths = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in PICTURE_SUFFIXES)
    brands = {path.parent.name for path in paths}
    if len(brands) < 2:
        cure = "give a folder with one folder of pictures for each of at least two brands"
        raise DataError(f"field 'logos.gallery': {folder} has pictures of {len(brands)} brands", cure)
    return paths


def embed(encoder: Encoder, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors of pictures without copy.

    Args:
        encoder: In evaluation mode.
        pictures: n pictures, uint8 `[height, width, 3]`.

    Returns:
        float32 `[n, dim]` of length 1.
    """
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pictures), _BATCH):
            some = list(pictures[start : start + _BATCH])
            names = [str(i) for i in range(len(some))]
            parts.append(encoder(encoder.prepare(Creatives(names, names, some, [""] * len(some)))).float().numpy())
    return np.concatenate(parts)


def _view(sign: Image.Image, ground: tuple[int, int, int], turn: float) -> np.ndarray:
    """A sign on a ground, with a margin."""
    turned = sign.rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor=(*ground, 0 if _transparent(sign) else 255))
    box = turned.getchannel("A").getbbox() or (0, 0, *turned.size)
    turned = turned.crop(box)
    margin = round(_MARGIN * max(turned.size))
    view = Image.new("RGBA", (turned.width + 2 * margin, turned.height + 2 * margin), (*ground, 255))
    view.alpha_composite(turned, (margin, margin))
    return np.asarray(view.convert("RGB"))


def _transparent(sign: Image.Image) -> bool:
    lowest, _ = sign.getchannel("A").getextrema()
    return isinstance(lowest, int | float) and lowest < 255


def _cut(picture: np.ndarray, box: Box) -> np.ndarray | None:
    """The pixels of a box with a margin; None where it is too small to hold a sign."""
    height, width = picture.shape[:2]
    margin = _MARGIN * max(box[2] - box[0], box[3] - box[1])
    left, top = max(0, round(box[0] - margin)), max(0, round(box[1] - margin))
    right, bottom = min(width, round(box[2] + margin)), min(height, round(box[3] + margin))
    return picture[top:bottom, left:right] if min(right - left, bottom - top) >= 8 else None


def _around(polygon: Sequence[float]) -> Box:
    return min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])


def _inside(inner: Box, outer: Box) -> bool:
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3]
