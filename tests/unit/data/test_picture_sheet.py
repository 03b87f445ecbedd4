from __future__ import annotations

import numpy as np
from PIL import Image

from adray.data.picture_sheet import picture_sheet


def test_every_line_of_a_caption_has_room_between_the_rows(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    caption = "one\ntwo\nthree"
    sheet = np.asarray(Image.open(picture_sheet([red] * 7, [caption] * 7, tmp_path / "new" / "sheet.png")))
    is_red, is_ink = (sheet == [255, 0, 0]).all(axis=2), (sheet < 128).all(axis=2)
    # Six pictures across, the seventh on a row of its own.
    assert is_red[:, 170 * 5 :].any() and is_red.any(axis=1).sum() == 2 * 160
    between = np.flatnonzero(is_red[160:, 0])[0] + 160
    written = np.flatnonzero(is_ink[160:between].any(axis=1))
    # Three lines stand in the gap, whole: the gap begins and ends without ink.
    lines = 1 + (np.diff(written) > 1).sum()
    assert lines == 3 and written[0] > 0 and written[-1] < between - 160 - 1
