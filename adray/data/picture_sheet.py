"""A contact sheet: pictures side by side with captions, as one PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_TILE, _ACROSS, _CAPTION = 160, 6, 32


def picture_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], path: Path) -> Path:
    """Pictures side by side, captions of up to two lines below.

    Args:
        pictures: uint8 `[height, width, 3 or 4]` each.
        captions: One a picture.
        path: The PNG to write; its folder is made.
    """
    step = _TILE + 6
    rows = -(-len(pictures) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * step, max(rows, 1) * (step + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = place % _ACROSS * step, place // _ACROSS * (step + _CAPTION)
        tile = Image.fromarray(picture).convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (x, y))
        draw.text((x, y + _TILE + 2), caption, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
