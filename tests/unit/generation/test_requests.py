"""Requests from any table: one per product or per row, written apart only where that is needed."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from adray.data.piecework.items import make_items
from adray.data.schema import PRODUCTS
from adray.errors import DataError
from adray.generation.recurrent.requests import prepare_requests
from tests.helpers.edge_cutouts import edge_cutouts
from tests.helpers.generation_requests import request_rows, write_requests


def ids_of(requests):
    table = pq.read_table(requests.source.path)
    return table.column(requests.columns.id).to_pylist()


def test_a_table_of_one_row_per_product_is_read_where_it_lies(tmp_path):
    path = write_requests(tmp_path / "a.parquet", request_rows(10))
    requests = prepare_requests(str(path), "product", tmp_path / "run")
    assert (requests.source.path, requests.rows, requests.repeats) == (str(path), 10, 0)
    assert not (tmp_path / "run").exists()


def test_of_a_products_rows_the_first_is_taken(tmp_path):
    path = write_requests(tmp_path / "a.parquet", request_rows(30, per_sku=4), row_group=7)
    requests = prepare_requests(str(path), "product", tmp_path / "run")
    assert (requests.rows, requests.repeats) == (8, 22)
    assert ids_of(requests) == [f"sku{i:03d}" for i in range(8)]
    first = pq.read_table(requests.source.path).column("cutout")[1]["bytes"].as_py()
    assert first == pq.read_table(path).column("cutout")[4]["bytes"].as_py()


def test_what_was_written_apart_is_found_again_so_that_items_keep_their_names(tmp_path):
    path = write_requests(tmp_path / "a.parquet", request_rows(12, per_sku=3))
    first = prepare_requests(str(path), "product", tmp_path / "run")
    again = prepare_requests(str(path), "product", tmp_path / "run")
    assert [item.name for item in make_items(first.source, 2, 2)] == [item.name for item in make_items(again.source, 2, 2)]
    write_requests(path, request_rows(15, per_sku=3))
    assert prepare_requests(str(path), "product", tmp_path / "run").rows == 5


def test_one_request_per_row(tmp_path):
    path = write_requests(tmp_path / "a.parquet", request_rows(12, per_sku=3))
    requests = prepare_requests(str(path), "row", tmp_path / "run")
    assert (requests.rows, requests.columns.id) == (12, "annotation_id")
    write_requests(path, [*request_rows(3), *request_rows(1)])
    with pytest.raises(DataError, match="annotation_id occurs twice"):
        prepare_requests(str(path), "row", tmp_path / "run")


def test_titles_come_from_title_or_else_copy(tmp_path):
    rows = [{"sku_id": row["sku_id"], "title": "T", "cutout": row["cutout"]} for row in request_rows(2)]
    assert {*rows[0]} <= {*PRODUCTS.required.names, *PRODUCTS.optional.names}
    products = prepare_requests(str(write_requests(tmp_path / "p.parquet", rows)), "row", tmp_path)
    assert (products.columns.text, products.columns.id) == ("title", "sku_id")
    assert prepare_requests(str(write_requests(tmp_path / "a.parquet", request_rows(2))), "product", tmp_path).columns.text == "copy"


def test_a_folder_of_pictures_is_a_request_per_file(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(("plain", "thin", "palette with transparency")):
        (folder / f"{number}.png").write_bytes(edge_cutouts()[name])
    requests = prepare_requests(str(folder), "product", tmp_path / "run")
    assert (requests.rows, requests.columns.picture, requests.columns.text) == (3, "image", None)
    assert ids_of(requests) == ["0", "1", "2"]


@pytest.mark.parametrize(("missing", "message"), [("sku_id", "no column 'sku_id'"), ("cutout", "neither column 'cutout' nor 'image'")])
def test_tables_without_products_are_refused(tmp_path, missing, message):
    rows = [{name: value for name, value in row.items() if name != missing} for row in request_rows(2)]
    with pytest.raises(DataError, match=message):
        prepare_requests(str(write_requests(tmp_path / "a.parquet", rows)), "product", tmp_path)
