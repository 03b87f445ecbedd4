from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from adray.data.images import decode_image
from adray.data.labels import LABELS
from adray.data.schema import ANNOTATIONS
from adray.errors import DataError
from adray.run import Run
from adray.simulation import annotations_verbs
from adray.simulation.annotations import compose, paste, simulate_annotations
from adray.simulation.annotations_config import AnnotationsConfig, AnnotationsRunConfig, CutoutsConfig
from adray.simulation.annotations_oracle import measure, true_labels
from adray.simulation.annotations_products import NO_PART, crop_to_product, draw_annotated_products, read_cutouts
from adray.simulation.defects import HALLUCINATION, SIZE, draw_scenes
from adray.simulation.scenes import TEXTURES, box_coverage, disc_coverage


@pytest.fixture(scope="module")
def world():
    config = AnnotationsConfig(products=60)
    rng = np.random.default_rng(5)
    products, _ = draw_annotated_products(config, rng)
    scenes = draw_scenes(config, products, np.arange(60), 400, rng)
    return config, products, scenes, compose(scenes, products, config.size)


def test_equal_seeds_give_equal_bytes(tmp_path):
    config = AnnotationsConfig(products=10, pictures=20, holdout_pictures=10, size=48)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_annotations(config, seed, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["holdout.parquet", "products.parquet", "quarantine.parquet", "train.parquet", "world.json"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "train.parquet").read_bytes() != (tmp_path / "c" / "train.parquet").read_bytes()


def test_tables_have_the_declared_form_and_share_no_product(tmp_path):
    simulate_annotations(AnnotationsConfig(products=10, pictures=40, holdout_pictures=30, size=48), 0, tmp_path / "w")
    train, holdout = (pq.read_table(tmp_path / "w" / f"{name}.parquet") for name in ("train", "holdout"))
    assert {*ANNOTATIONS.required.names} <= {*train.column_names} <= {*ANNOTATIONS.required.names, *ANNOTATIONS.optional.names}
    assert not set(train["sku_id"].to_pylist()) & set(holdout["sku_id"].to_pylist())
    assert decode_image(train["cutout"][0]["bytes"].as_py()).shape == (48, 48, 4)
    assert set(train["label"].to_pylist()) <= set(LABELS)


@pytest.mark.parametrize("difficulty", [0.0, 0.3, 1.0])
def test_labels_are_true_by_construction(difficulty):
    config = AnnotationsConfig(products=60, difficulty=difficulty)
    rng = np.random.default_rng(1)
    products, _ = draw_annotated_products(config, rng)
    scenes = draw_scenes(config, products, np.arange(60), 2000, rng)
    assert (true_labels(scenes, products.height_cm[scenes.product]) == scenes.label).all()
    shares = np.bincount(scenes.label, minlength=5) / 2000
    # Four standard errors of a share over 2,000 draws.
    assert np.abs(shares - config.shares()).max() < 4 * np.sqrt(0.25 / 2000)


@pytest.mark.parametrize("textures", [["plain"], ["dotted", "plain"]])
def test_walls_have_the_textures_that_are_named(textures):
    config = AnnotationsConfig(products=10, textures=textures, size=48)
    rng = np.random.default_rng(2)
    products, _ = draw_annotated_products(config, rng)
    scenes = draw_scenes(config, products, np.arange(10), 60, rng)
    assert {prompt.split(", ")[1] for prompt in scenes.prompts()} == {f"{texture} wall" for texture in textures}
    rooms = compose(scenes, products, 48).pictures.astype(float)
    # Across the two top rows of an uncluttered wall: nothing changes on a plain one but the shading.
    calm = (scenes.clutter == 0) & (scenes.body[:, 1] > 8) & (scenes.reference == 0) & (scenes.part_length == 0)
    rough = np.abs(np.diff(rooms[calm, :6], axis=2)).max(axis=(1, 2, 3)) > 6
    assert (rough == np.array([TEXTURES[t] != "plain" for t in scenes.texture[calm]])).all()


def test_a_world_of_before_a_field_was_there_is_kept_on_resuming(tmp_path):
    small = {"products": 10, "pictures": 20, "holdout_pictures": 10, "size": 48}
    config = AnnotationsRunConfig(kind="annotations", name="w", world=small, resume=True)
    run = Run("w", tmp_path)
    annotations_verbs.simulate(config, run)
    summary = tmp_path / "world" / "world.json"
    older = json.loads(summary.read_text())
    del older["config"]["textures"]
    summary.write_text(json.dumps(older))
    before = summary.stat().st_mtime_ns
    annotations_verbs.simulate(config, Run("w", tmp_path))
    assert summary.stat().st_mtime_ns == before
    other = config.model_copy(update={"world": AnnotationsConfig(**small, textures=["plain"])})
    annotations_verbs.simulate(other, Run("w", tmp_path))
    assert summary.stat().st_mtime_ns != before


def test_the_oracle_measures_what_was_built(world):
    _, products, scenes, made = world
    measured = measure(made.pictures, made.cutouts, products.height_cm[scenes.product])
    found = measured.labels()
    assert np.mean(found == scenes.label) > 0.93
    assert np.mean((found == 0) == (scenes.label == 0)) > 0.95
    clear = scenes.clutter == 0
    assert np.median(np.abs(measured.line - scenes.line)[clear]) < 1.0


def test_the_oracle_finds_a_defect_that_was_added_to_a_good_picture(world):
    """A picture that no scene describes: a box in the product's colour is glued to its side; then noise is added."""
    _, products, scenes, made = world
    good = np.flatnonzero((scenes.label == 0) & (scenes.reference == 0))
    heights = products.height_cm[scenes.product]
    good = good[measure(made.pictures[good], made.cutouts[good], heights[good]).labels() == 0][:12]
    assert len(good) > 5
    pictures = made.pictures[good].copy()
    for picture, scene in zip(pictures, good, strict=True):
        left, top, right, _ = scenes.body[scene]
        side = slice(max(left - 7, 0), left + 3) if not scenes.part_right[scene] else slice(right - 3, right + 7)
        outside = made.cutouts[scene][..., 3] == 0
        box = np.zeros_like(outside)
        box[top + 6 : top + 12, side] = True
        picture[box & outside] = np.rint(255 * products.tone[scenes.product[scene]])
    assert np.mean(measure(pictures, made.cutouts[good], heights[good]).labels() == HALLUCINATION) > 0.7
    noisy = np.clip(made.pictures[good] + np.random.default_rng(0).normal(0, 40, pictures.shape), 0, 255).astype(np.uint8)
    assert (measure(noisy, made.cutouts[good], heights[good]).labels() != 0).all()


def test_a_picture_alone_does_not_tell_who_owns_the_part(world):
    config, products, scenes, _ = world
    rows = np.flatnonzero(scenes.part != NO_PART)[:64]
    own = replace(scenes[rows], owned=np.ones(len(rows), bool))
    grown = replace(scenes[rows], owned=np.zeros(len(rows), bool))
    a, b = compose(own, products, config.size), compose(grown, products, config.size)
    assert np.abs(a.pictures.astype(int) - b.pictures).max() <= 2
    assert (a.cutouts[..., 3].astype(int).sum((1, 2)) > b.cutouts[..., 3].astype(int).sum((1, 2))).all()


def test_a_picture_alone_does_not_tell_the_products_size(world):
    """Beside a product shown too large stands what would stand beside a small one."""
    _, products, scenes, _ = world
    size = products.size[scenes.product]
    wrong = scenes.label == SIZE
    for kind in range(1, 5):
        fits = {int(s) for s in size[(scenes.reference == kind) & ~wrong]}
        absurd = {int(s) for s in size[(scenes.reference == kind) & wrong]}
        assert len(fits) == 1
        assert not fits & absurd


@given(arrays(np.uint8, (1, 4, 4, 4)), arrays(np.float32, (1, 4, 4, 3), elements=st.floats(0, 1, width=32)))
def test_opaque_product_pixels_survive(cutout, room):
    cutout[0, 0] |= np.array([0, 0, 0, 255], np.uint8)
    cutout[0, 1, :, 3] = 254
    pasted = paste(room, cutout)
    assert (pasted[cutout[..., 3] == 255] == cutout[..., :3][cutout[..., 3] == 255]).all()
    assert np.abs(pasted[0, 1].astype(int) - cutout[0, 1, :, :3]).max() <= 1
    empty = cutout[..., 3] == 0
    assert (pasted[empty] == np.rint(room[empty] * 255)).all()


@given(st.floats(0, 8), st.floats(0, 8), st.floats(0, 8), st.floats(0, 8))
def test_a_box_covers_its_area(x0, x1, y0, y1):
    left, right, top, bottom = (np.array([v]) for v in (min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)))
    assert box_coverage(left, top, right, bottom, 8).sum() == pytest.approx(float((right - left)[0] * (bottom - top)[0]), abs=1e-3)


def test_a_disc_covers_its_area():
    assert disc_coverage(np.array([32.3]), np.array([31.8]), np.array([20.0]), 64).sum() == pytest.approx(np.pi * 400, rel=0.01)


def png(pixels, mode=None, **options):
    picture = Image.fromarray(pixels)
    stream = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(stream, "PNG", **options)
    return stream.getvalue()


def rgba(alpha, size=(20, 30)):
    pixels = np.full((*size, 4), 90, np.uint8)
    pixels[..., 3] = alpha
    return pixels


def test_cutouts_of_any_form_are_read_and_unusable_ones_named(tmp_path):
    thin = rgba(0)
    thin[:, 12:13, 3] = 255
    middle = rgba(0)
    middle[5:15, 8:20, 3] = 255
    palette = Image.fromarray(middle).quantize(8)
    palette.save(tmp_path / "palette.png")
    for name, content in {
        "thin": png(thin),
        "whole": png(rgba(255)),
        "veiled": png(np.where(middle == 255, 200, middle).astype(np.uint8)),
        "no_alpha": png(rgba(255)[..., :3]),
        "empty": png(rgba(0)),
        "broken": png(middle)[:40],
    }.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    found, lost = read_cutouts(str(tmp_path), 0.5)
    assert {name: picture.size for name, picture in found.items()} == {
        "palette": (12, 10),
        "thin": (1, 20),
        "veiled": (12, 10),
        "whole": (30, 20),
    }
    reasons = {path.rsplit("/", 1)[-1]: reason for path, reason in lost}
    assert set(reasons) == {"no_alpha.png", "empty.png", "broken.png"}
    assert "no alpha channel" in reasons["no_alpha.png"]
    assert "empty" in reasons["empty.png"]
    with pytest.raises(DataError, match="no usable cut-out"):
        read_cutouts(str(tmp_path), 0.2)
    config = AnnotationsConfig(
        products=8,
        pictures=8,
        holdout_pictures=4,
        size=48,
        cutouts=CutoutsConfig(source="folder", path=str(tmp_path), quarantine_limit=0.5),
    )
    assert simulate_annotations(config, 0, tmp_path / "world")["quarantined"] == 3
    assert pq.read_table(tmp_path / "world" / "quarantine.parquet").num_rows == 3


def test_interlaced_png_is_cropped_to_its_product():
    # Pillow writes no interlaced PNG; this one is 2 x 2, Adam7, one opaque pixel at the top left.
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    red, clear = b"\xff\x00\x00\xff", b"\x00\x00\x00\x00"
    passes = b"\x00" + red + b"\x00" + clear + b"\x00" + clear + clear
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 6, 0, 0, 1))
    content += chunk(b"IDAT", zlib.compress(passes)) + chunk(b"IEND", b"")
    assert np.asarray(crop_to_product(decode_image(content))).tolist() == [[[255, 0, 0, 255]]]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"mix": {"good": 1.0}}, "labels are"),
        ({"mix": {"available": 0.5}}, "sum to 1"),
        ({"cutouts": {"source": "folder"}}, "needs a path"),
        ({"textures": ["plain", "plain"]}, "name each once"),
        ({"products": 2, "holdout_products": 0.9}, "at least one in each part"),
    ],
)
def test_wrong_worlds(fields, text):
    with pytest.raises(ValueError, match=text):
        AnnotationsConfig(**fields)
