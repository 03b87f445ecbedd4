"""A page of pictures: each query beside its nearest neighbours, right ones framed green."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

_TILE, _FRAME, _GAP, _LINE = 128, 5, 10, 15
_RIGHT, _WRONG, _QUERY = (30, 160, 70), (205, 60, 50), (90, 90, 90)
_LETTERS = 21


def contact_sheet(
    pictures: Sequence[Sequence[np.ndarray | None]], captions: Sequence[Sequence[str]], right: Sequence[Sequence[bool]], path: Path
) -> Path:
    """Draw the page.

    Args:
        pictures: By row: the query's, then its neighbours', uint8 `[height, width, 3]`; None where there is none.
        captions: A line under each of them.
        right: By row, whether each neighbour is right.
        path: The PNG.

    Returns:
        The path.
    """
    columns = max(len(row) for row in pictures)
    step_x, step_y = _TILE + 2 * _FRAME + _GAP, _TILE + 2 * _FRAME + _LINE + _GAP
    page = Image.new("RGB", (columns * step_x + _GAP + _GAP, len(pictures) * step_y + _GAP + _LINE), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    draw.text((_GAP, 4), "query", fill=_QUERY, font=font)
    draw.text((_GAP + step_x + _GAP, 4), "nearest neighbours: green = same SKU, red = another", fill=_QUERY, font=font)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            x, y = _GAP + j * step_x + (_GAP if j else 0), _GAP + _LINE + i * step_y
            colour = _QUERY if j == 0 else _RIGHT if right[i][j - 1] else _WRONG
            draw.rectangle((x, y, x + _TILE + 2 * _FRAME - 1, y + _TILE + 2 * _FRAME - 1), fill=colour)
            page.paste(_tile(picture), (x + _FRAME, y + _FRAME))
            text = captions[i][j]
            draw.text(
                (x, y + _TILE + 2 * _FRAME + 1), text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…", fill="black", font=font
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
    return path


def _tile(picture: np.ndarray | None) -> Image.Image:
    tile = Image.new("RGB", (_TILE, _TILE), (235, 235, 235))
    if picture is not None:
        image = ImageOps.contain(Image.fromarray(picture), (_TILE, _TILE))
        tile.paste(image, ((_TILE - image.width) // 2, (_TILE - image.height) // 2))
    return tile
