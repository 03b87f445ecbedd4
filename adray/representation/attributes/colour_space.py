"""sRGB to CIELab, and how different two colours look."""

from __future__ import annotations

import numpy as np

_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
"""Linear sRGB to CIE XYZ under D65 (IEC 61966-2-1)."""
_WHITE = _TO_XYZ.sum(axis=1)
_DELTA = 6.0 / 29.0
_CHROMA_7 = 25.0**7


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB to CIELab with white D65 (CIE 15:2004).

    Args:
        rgb: uint8 `[..., 3]`.

    Returns:
        float64 `[..., 3]`: L in [0, 100], a and b about [-110, 110].
    """
    values = np.asarray(rgb, np.float64) / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > _DELTA**3, np.cbrt(xyz), xyz / (3.0 * _DELTA**2) + 4.0 / 29.0)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """CIEDE2000 colour difference with unit weights (Sharma, Wu and Dalal 2005, equations 2 to 22).

    Args:
        first: CIELab, float `[..., 3]`.
        second: CIELab, float `[..., 3]`, broadcast against `first`.

    Returns:
        float64 `[...]`, 0 for equal colours; about 1 is the smallest difference one sees.
    """
    lab1, lab2 = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    l1, a1, b1 = np.moveaxis(lab1, -1, 0)
    l2, a2, b2 = np.moveaxis(lab2, -1, 0)
    mean_chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2.0
    stretch = 1.5 - 0.5 * np.sqrt(mean_chroma**7 / (mean_chroma**7 + _CHROMA_7))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, stretch * a1)) % 360.0, np.degrees(np.arctan2(b2, stretch * a2)) % 360.0
    grey = c1 * c2 == 0.0
    turn = np.where(grey, 0.0, (h2 - h1 + 180.0) % 360.0 - 180.0)
    # Opposite hues: the published pairs take the positive half turn.
    turn = np.where(np.abs(h2 - h1) == 180.0, h2 - h1, turn)
    d_lightness, d_chroma = l2 - l1, c2 - c1
    d_hue = 2.0 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2.0)
    mean_l, mean_c = (l1 + l2) / 2.0, (c1 + c2) / 2.0
    s_l, s_c, s_h, twist = _weights(mean_l, mean_c, _mean_hue(h1, h2, grey))
    parts = (d_lightness / s_l) ** 2 + (d_chroma / s_c) ** 2 + (d_hue / s_h) ** 2
    return np.asarray(np.sqrt(np.maximum(parts + twist * (d_chroma / s_c) * (d_hue / s_h), 0.0)))


def _mean_hue(h1: np.ndarray, h2: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Equation 14: the middle of the shorter arc; the other's hue where one colour is grey."""
    total = h1 + h2
    apart = np.abs(h1 - h2) > 180.0
    middle = np.where(apart, np.where(total < 360.0, total + 360.0, total - 360.0), total) / 2.0
    return np.where(grey, total, middle)


def _weights(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Equations 15 to 21: weights of lightness, chroma and hue, and the rotation term."""
    t = (
        1.0
        - 0.17 * np.cos(np.radians(hue - 30.0))
        + 0.24 * np.cos(np.radians(2.0 * hue))
        + 0.32 * np.cos(np.radians(3.0 * hue + 6.0))
        - 0.20 * np.cos(np.radians(4.0 * hue - 63.0))
    )
    rotation = 2.0 * np.sqrt(chroma**7 / (chroma**7 + _CHROMA_7))
    angle = 60.0 * np.exp(-(((hue - 275.0) / 25.0) ** 2))
    s_l = 1.0 + 0.015 * (lightness - 50.0) ** 2 / np.sqrt(20.0 + (lightness - 50.0) ** 2)
    return s_l, 1.0 + 0.045 * chroma, 1.0 + 0.015 * chroma * t, -np.sin(np.radians(angle)) * rotation
