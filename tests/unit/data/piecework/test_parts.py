"""Parts of a job: whole or not there, recorded last, and only of items that the source still has."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.data.piecework.items import Item
from adray.data.piecework.parts import ItemResult, Parts, check_lost, check_unique
from adray.errors import DataError

ROWS = pa.table({"x": [1, 2, 3]})


@pytest.fixture
def parts(tmp_path):
    return Parts.make(tmp_path, "vectors")


def do(parts: Parts, name: str, rows: pa.Table = ROWS, lost: tuple[tuple[str, str], ...] = ()) -> ItemResult:
    item, result = Item(name, 0), ItemResult(name, counts={"odd": 2})
    with parts.writing(item, rows.schema, 2) as writer:
        writer.write(rows)
    result.kept = writer.written
    parts.finish(result, item, "creatives", "embed", list(lost))
    return result


def test_a_done_item_is_found_again_with_its_counts(parts):
    result = do(parts, "a", lost=(("c7", "broken"), ("c8", "empty")))
    assert (result.kept, result.lost, result.first) == (3, 2, "c7: broken")
    assert parts.finished([Item("a", 0), Item("b", 0)]) == {"a": result}
    assert pq.read_table(parts.output / "part-a.parquet").equals(ROWS)
    assert pq.read_table(parts.quarantine / "part-a.parquet")["reason"].to_pylist() == ["broken", "empty"]


def test_an_item_that_fails_leaves_no_part_and_is_not_done(parts):
    with pytest.raises(RuntimeError), parts.writing(Item("a", 0), ROWS.schema, 1) as writer:
        writer.write(ROWS)
        raise RuntimeError
    assert not list(parts.output.glob("*.parquet"))
    assert parts.finished([Item("a", 0)]) == {}
    assert not list(parts.output.iterdir()), "what was begun is cleared away"


def test_output_without_a_record_and_of_vanished_items_is_deleted(parts):
    do(parts, "a")
    do(parts, "gone", lost=(("c1", "broken"),))
    do(parts, "unrecorded")
    (parts.done / "unrecorded.json").unlink()
    assert set(parts.finished([Item("a", 0), Item("unrecorded", 0)])) == {"a"}
    assert [path.name for path in parts.output.iterdir()] == ["part-a.parquet"]
    assert not list(parts.quarantine.iterdir())


def test_losses_are_refused_as_soon_as_they_are_too_many_of_all(tmp_path):
    results = [ItemResult("a", kept=8, lost=2, first="c7: broken")]
    check_lost(results, 200, "creatives", 0.01, tmp_path)
    check_lost(results, 0, "creatives", 0.01, tmp_path)
    with pytest.raises(DataError, match=r"2 of 199 rows \(1.01%\) cannot be used, limit 1.00%; first c7: broken"):
        check_lost(results, 199, "creatives", 0.01, tmp_path)
    with pytest.raises(DataError, match="2 of 10 rows"):
        check_lost(results, None, "creatives", 0.01, tmp_path)
    with pytest.raises(DataError, match="has no rows"):
        check_lost([], None, "creatives", 0.01, tmp_path)


def test_a_key_twice_is_named_although_each_item_has_it_once(parts):
    do(parts, "a", pa.table({"id": ["x", "y"]}))
    do(parts, "b", pa.table({"id": ["z"]}))
    check_unique(str(parts.output), "id", "creatives")
    do(parts, "c", pa.table({"id": ["w", "y"]}))
    with pytest.raises(DataError, match="id 'y' occurs twice in table 'creatives'"):
        check_unique(str(parts.output), "id", "creatives")
