"""Decoding pictures of every kind, and telling broken ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from adray.data import images
from adray.data.images import ImageRowError, decode_image


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def gradient() -> Image.Image:
    rows, columns = np.mgrid[0:48, 0:64]
    return Image.fromarray(np.stack([rows * 5, columns * 3, rows + columns], axis=2).astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_kinds_are_exact(gradient: Image.Image, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_image(encode(gradient, kind, **options))
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, np.asarray(gradient))


def test_jpeg_agrees_with_pillow(gradient: Image.Image) -> None:
    data = encode(gradient, "JPEG", quality=92)
    other = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_image(data).astype(int) - other).max() <= 4


def test_smaller_jpeg_scale() -> None:
    data = encode(Image.new("RGB", (640, 480), (10, 200, 30)), "JPEG")
    small = decode_image(data, at_least=100)
    assert small.shape == (120, 160, 3)
    assert np.abs(small.astype(int) - [10, 200, 30]).max() <= 3


def test_greyscale_and_cmyk_jpegs_are_rgb(gradient: Image.Image) -> None:
    grey = decode_image(encode(gradient.convert("L"), "JPEG"))
    assert grey.shape == (48, 64, 3) and np.array_equal(grey[..., 0], grey[..., 2])
    assert decode_image(encode(gradient.convert("CMYK"), "JPEG")).shape == (48, 64, 3)


def test_transparency_is_kept(gradient: Image.Image) -> None:
    with_alpha = gradient.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize((64, 48)))
    assert np.array_equal(decode_image(encode(with_alpha, "PNG")), np.asarray(with_alpha))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 8, 7, 250, 100, 50])
    assert decode_image(encode(palette, "PNG"))[0, 0].tolist() == [250, 100, 50]
    assert decode_image(encode(palette, "PNG", transparency=1))[0, 0].tolist() == [250, 100, 50, 0]
    assert decode_image(encode(gradient.convert("LA"), "PNG")).shape == (48, 64, 4)


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    deep = Image.fromarray(np.full((3, 5), 0x80FF, np.uint16))
    assert decode_image(encode(deep, "PNG"))[0, 0].tolist() == [0x80] * 3


def test_camera_orientation_is_applied() -> None:
    wide = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encode(wide, "JPEG", exif=exif)).shape == (40, 20, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cut_short(gradient: Image.Image, kind: str) -> None:
    data = encode(gradient, kind)
    with pytest.raises(ImageRowError, match="cannot be decoded"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize(("data", "message"), [(b"", "no bytes"), (b"hello", "5 bytes that are no known picture format")])
def test_no_picture(data: bytes, message: str) -> None:
    with pytest.raises(ImageRowError, match=message):
        decode_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_huge_picture_is_refused_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ImageRowError, match="64 x 48 pixels, more than 1000"):
        decode_image(encode(Image.new("RGB", (64, 48)), kind))
