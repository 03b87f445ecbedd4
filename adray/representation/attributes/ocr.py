"""Lines of text in a picture, by PP-OCR as rapidocr packages it: on the CPU, from the models inside the package."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field

from adray.config import Config
from adray.errors import ResourceError
from adray.files import sha256
from adray.representation.attributes.values import TextBox

_MODELS = {"Det.model_path": "PP-OCRv6_det_small.onnx", "Rec.model_path": "PP-OCRv6_rec_small.onnx"}
_SMALLEST_SIDE = 8
"""Pixels: nothing smaller holds a letter."""
_LONGEST_ASPECT = 6.0
"""Longer pictures are read in overlapping tiles: the detector would shrink them to a thread."""
_LARGEST_LETTER = 0.4
"""Share of the picture's shorter side: one or two "letters" larger than this are the product, taken for text."""


class OcrConfig(Config):
    """How pictures' texts are read."""

    longest_side: int = Field(default=736, ge=64, le=4096)
    """Larger pictures are reduced to this before texts are sought in them."""
    shortest_side: int = Field(default=480, ge=32, le=4096)
    """Pictures whose longer side is smaller are enlarged to it, up to four times: small letters are then found."""
    least_score: float = Field(default=0.6, ge=0, le=1)
    """Lines that the recogniser is less sure of are left out."""
    threads: int = Field(default=1, ge=1)
    """Threads of one reader."""


class TextReader:
    """Finds and reads lines of text.

    Args:
        config: How.

    Raises:
        ResourceError: If rapidocr or its models are not installed. Nothing is ever downloaded.
    """

    def __init__(self, config: OcrConfig) -> None:
        from rapidocr import RapidOCR

        self._config = config
        params: dict[str, Any] = {name: str(path) for name, path in model_files().items()}
        threads = "EngineConfig.onnxruntime"
        self._engine = RapidOCR(
            params=params
            | {
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Global.text_score": config.least_score,
                "Det.limit_side_len": config.longest_side,
                "Det.limit_type": "max",
                f"{threads}.intra_op_num_threads": config.threads,
                f"{threads}.inter_op_num_threads": 1,
            }
        )

    def read(self, picture: np.ndarray) -> tuple[TextBox, ...]:
        """Read a picture.

        Args:
            picture: uint8 `[height, width, 3]`, RGB, of any size.

        Returns:
            Its lines from top to bottom, polygons in the picture's own pixels.
        """
        if min(picture.shape[:2]) < _SMALLEST_SIDE:
            return ()
        found = []
        for tile, (left, top), own in _tiles(picture):
            for corners, text, score in self._read_tile(tile):
                placed = corners + (left, top)
                if len(text.strip()) <= 2 and _thickness(corners) > _LARGEST_LETTER * min(picture.shape[:2]):
                    continue
                if own[0] <= placed[:, 0].mean() < own[2] and own[1] <= placed[:, 1].mean() < own[3]:
                    found.append(TextBox(tuple(float(v) for v in placed.ravel()), text, score, "ocr", score))
        return tuple(sorted(found, key=lambda box: (box.polygon[1], box.polygon[0])))

    def _read_tile(self, tile: np.ndarray) -> Iterator[tuple[np.ndarray, str, float]]:
        from rapidocr.utils.output import RapidOCROutput

        scale = self._scale(tile.shape)
        size = (max(1, round(tile.shape[1] * scale)), max(1, round(tile.shape[0] * scale)))
        scaled = tile if scale == 1.0 else cv2.resize(tile, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        result = self._engine(np.ascontiguousarray(np.asarray(scaled)[:, :, ::-1]))
        if not isinstance(result, RapidOCROutput) or result.boxes is None or result.txts is None or result.scores is None:
            return
        for corners, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            if text.strip():
                yield np.asarray(corners, np.float64).reshape(4, 2) / scale, text, float(np.clip(score, 0.0, 1.0))

    def _scale(self, shape: tuple[int, ...]) -> float:
        side = max(shape[:2])
        if side > self._config.longest_side:
            return self._config.longest_side / side
        return min(4.0, max(1.0, self._config.shortest_side / side))


def _thickness(corners: np.ndarray) -> float:
    """The shorter side of a quadrangle."""
    return float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).min())


Box = tuple[float, float, float, float]


def _tiles(picture: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int], Box]]:
    """(pixels, their left and top, the box whose texts count) of each tile; one tile for pictures of usual shape.

    Neighbouring tiles overlap by half a tile, and a text counts in the tile in whose middle its centre lies, so that a word
    across two tiles is read whole and once.
    """
    height, width = picture.shape[:2]
    short, long = min(height, width), max(height, width)
    if long <= _LONGEST_ASPECT * short:
        yield picture, (0, 0), (-math.inf, -math.inf, math.inf, math.inf)
        return
    length = round(_LONGEST_ASPECT * short)
    starts = list(range(0, max(1, long - length // 2), length // 2))
    for number, start in enumerate(starts):
        low = -math.inf if number == 0 else start + length / 4
        high = math.inf if number == len(starts) - 1 else start + 3 * length / 4
        if width >= height:
            yield picture[:, start : start + length], (start, 0), (low, -math.inf, high, math.inf)
        else:
            yield picture[start : start + length], (0, start), (-math.inf, low, math.inf, high)


def model_files() -> dict[str, Path]:
    """The models inside the rapidocr package.

    Raises:
        ResourceError: If the package, or a model in it, is missing.
    """
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise ResourceError("package rapidocr is not installed", "install it, or set fields.text_boxes to none")
    files = {name: Path(spec.origin).parent / "models" / file for name, file in _MODELS.items()}
    for path in files.values():
        if not path.is_file():
            raise ResourceError(f"package rapidocr has no model {path.name}", "install the version that constraints.txt names")
    return files


def models_hash() -> str:
    """First 16 hex digits of the models' SHA-256: a part of the extractor's provenance."""
    return "-".join(sha256(path)[:8] for path in model_files().values())
