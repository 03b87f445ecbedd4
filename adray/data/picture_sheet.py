"""A contact sheet: pictures side by side with captions, as one PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_TILE, _ACROSS, _LINE = 160, 6, 16


def picture_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], path: Path) -> Path:
    """Pictures side by side, captions below.

    Args:
        pictures: uint8 `[height, width, 3 or 4]` each.
        captions: One a picture, of lines of up to 26 letters.
        path: The PNG to write; its folder is made.
    """
    step = _TILE + 6
    down = step + _LINE * (1 + max((caption.count("\n") for caption in captions), default=0))
    rows = -(-len(pictures) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * step, max(rows, 1) * down), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = place % _ACROSS * step, place // _ACROSS * down
        tile = Image.fromarray(picture).convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (x, y))
        draw.text((x, y + _TILE + 2), caption, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
