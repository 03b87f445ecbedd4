from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import stats

from adray.data.bad_rows import BadRowsError
from adray.data.stream import TableStream
from adray.errors import DataError
from adray.generation.placement import PlacementConfig
from adray.generation.prompts import PromptConfig
from adray.generation.rfft.source import FeedbackSource, ProductCollate, asked, chosen_step, first_of_each, request_columns
from tests.helpers.tiny_generator import SIDE, box_cutouts

PROMPTS = PromptConfig(entries=[{"prompt": "{title}, {colour} room"}], colours=["red", "blue", "green"])
COLLATE = ProductCollate(PlacementConfig(size=SIDE, keep_loc=True), ("sku_id", "annotation_id", "cutout", "copy"))


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def table(n):
    return pa.table(
        {
            "sku_id": [f"s{i // 2}" for i in range(n)],
            "annotation_id": [f"a{i}" for i in range(n)],
            "cutout": [{"bytes": png(c), "path": None} for c in box_cutouts(n)],
            "copy": [f"mini kettle {i}" for i in range(n)],
        }
    )


@pytest.fixture
def source(tmp_path):
    pq.write_table(table(32), tmp_path / "t.parquet")

    def make(micro):
        stream = TableStream(
            str(tmp_path / "t.parquet"), seed=7, batch_size=8, micro_batch_size=micro, collate=COLLATE, columns=COLLATE.columns, lanes=4
        )
        return FeedbackSource(stream, PROMPTS, PlacementConfig(), seed=7, steps=40, last=10)

    return make


def rows(batches):
    return {key: (prompt, seed) for b in batches for key, prompt, seed in zip(b.products.keys, b.prompts, b.seeds, strict=True)}


def test_one_and_two_workers_make_the_same_pictures_and_take_the_same_steps(source):
    alone = list(source(4).batches(0, 0, 0, 1))
    first, second = (list(source(4).batches(0, 0, rank, 2)) for rank in (0, 1))
    assert rows(alone) == rows([*first, *second]) and len(rows(alone)) == 32
    assert [b.step for b in first] == [b.step for b in second]


def test_a_resumed_epoch_goes_on_with_the_same_pictures(source):
    whole = list(source(8).batches(1, 0, 0, 1))
    rest = list(source(8).batches(1, 2, 0, 1))
    assert [(b.products.keys, b.prompts, b.seeds, b.step) for b in whole[2:]] == [
        (b.products.keys, b.prompts, b.seeds, b.step) for b in rest
    ]


def test_each_epoch_has_other_noise(source):
    one, two = rows(source(8).batches(0, 0, 0, 1)), rows(source(8).batches(1, 0, 0, 1))
    assert one.keys() == two.keys() and all(one[k][1] != two[k][1] for k in one)


def test_products_stand_at_a_foot_of_their_own_in_every_picture(tmp_path):
    pq.write_table(table(8), tmp_path / "t.parquet")
    (products,) = first_of_each(str(tmp_path / "t.parquet"), COLLATE, 8, 8)
    rules = PlacementConfig(size=SIDE, foot=(0.6, 1.0))
    one, two, still = (asked(products, PROMPTS, 3, attempt, 0, *rest).products for attempt, rest in ((0, [rules]), (1, [rules]), (0, [])))
    assert np.array_equal(still.cutouts, products.cutouts)
    feet = [[int(np.flatnonzero(c[..., 3].any(axis=1))[-1]) + 1 for c in made.cutouts] for made in (one, two)]
    assert feet[0] != feet[1] and all(round(0.6 * SIDE) <= foot <= SIDE for foot in feet[0] + feet[1])
    assert np.array_equal(one.cutouts, asked(products, PROMPTS, 3, 0, 0, rules).products.cutouts)
    assert all(a.sum() == b.sum() for a, b in zip(one.cutouts, products.cutouts, strict=True))


def test_chosen_steps_are_uniform_over_the_last_ten_of_forty():
    drawn = np.array([chosen_step(0, 0, step, 0, 40, 10) for step in range(4000)])
    assert set(drawn) == set(range(30, 40))
    assert stats.chisquare(np.bincount(drawn - 30)).pvalue > 1e-3


def test_rows_without_title_or_product_are_named():
    broken = table(4).to_pylist()
    broken[0]["copy"] = "  "
    broken[1]["cutout"] = None
    broken[2]["cutout"] = {"bytes": png(np.zeros((8, 8, 4), np.uint8)), "path": None}
    broken[3]["cutout"] = {"bytes": png(box_cutouts(1)[0][: SIDE - 8]), "path": None}
    with pytest.raises(BadRowsError) as caught:
        COLLATE(pa.Table.from_pylist(broken))
    reasons = dict(caught.value.rows)
    assert set(reasons) == {0, 1, 2, 3} and "only squares" in reasons[3] and "title" in reasons[0] and "no picture" in reasons[1]


def test_a_table_without_titles_is_refused():
    with pytest.raises(DataError, match="neither column 'copy' nor 'title'"):
        request_columns(["sku_id", "cutout"], "x.parquet")


def test_the_first_row_of_each_of_the_first_products_by_hand(tmp_path):
    pq.write_table(table(12), tmp_path / "t.parquet")
    found = [products.keys for products in first_of_each(str(tmp_path / "t.parquet"), COLLATE, 3, 4)]
    # Rows a0 ... a11 are two to a product; three are read at a time, and the fifth product is not wanted.
    assert found == [("s0/a0", "s1/a2"), ("s2/a4",), ("s3/a6",)]
