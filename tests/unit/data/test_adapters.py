"""Adapters on small files whose right result is written out."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adray.config import validate
from adray.data.adapters import open_inputs
from adray.data.adapters.grouping import group_rows
from adray.data.adapters.inputs import TableInput
from adray.data.adapters.upworthy import monday
from adray.data.config import DataConfig
from adray.data.sources import read_part
from adray.data.validate import PROBLEM
from adray.errors import ConfigError, DataError


def rows_of(table: TableInput | None) -> list[dict]:
    """All rows of an input, as ingestion would make them in one task."""
    assert table is not None
    pieces = [table.adapted(rows) for part in table.source.parts for rows in read_part(table.source, part, print)]
    rows = pa.concat_tables(pieces)
    return (rows if table.grouping is None else table.grouping.make(rows)).to_pylist()


def test_groups_keep_the_order_of_first_appearance() -> None:
    groups = group_rows(pa.table({"k": ["b", "a", "b", "c", "a"], "v": range(5)}), ("k",))
    assert groups.rows["v"].to_pylist() == [0, 2, 1, 4, 3]
    assert groups.offsets.to_pylist() == [0, 2, 4, 5]
    assert groups.within().tolist() == [0, 1, 0, 1, 0]
    assert groups.rows["k"].take(groups.first).to_pylist() == ["b", "a", "c"]
    assert group_rows(pa.table({"k": pa.array([], pa.string())}), ("k",)).offsets.to_pylist() == [0]


@pytest.fixture
def arms(tmp_path: Path) -> Path:
    table = pa.table(
        {
            "clickability_test_id": ["t1", "t2", "t1", "t3", "t1"],
            "headline": ["h0", "h1", "h2", "h3", "h0"],
            "lede": ["l", None, "l", "l", "l"],
            "excerpt": [None, "e", None, None, None],
            "eyecatcher_id": ["p", "p", "q", None, "p"],
            "impressions": [10, 20, 30, 40, 50],
            "clicks": [1, 2, 3, 4, 5],
            "test_week": [201411, 201412, 201412, 201330, 201411],
        }
    )
    pq.write_table(table, tmp_path / "arms.parquet")
    return tmp_path / "arms.parquet"


def test_upworthy(arms: Path) -> None:
    inputs = open_inputs(DataConfig(path=str(arms), adapter="upworthy"))
    lists = rows_of(inputs.impressions)
    # t3 lies in the doubted weeks; t1 spans two weeks and is dated by the later one.
    assert [row["request_id"] for row in lists] == ["t1", "t2"]
    assert [(c["creative_id"], c["impressions"], c["clicks"]) for c in lists[0]["candidates"]] == [
        ("t1-0", 10, 1),
        ("t1-1", 30, 3),
        ("t1-2", 50, 5),
    ]
    # 17 March 2014 was the Monday of ISO week 12.
    assert lists[0]["timestamp"] == lists[1]["timestamp"] == datetime.datetime(2014, 3, 17, tzinfo=datetime.timezone.utc)
    creatives = rows_of(inputs.creatives)
    assert [row["creative_id"] for row in creatives] == ["t1-0", "t1-1", "t1-2", "t2-0"]
    assert creatives[1]["copy"] == "h2" and creatives[1]["elements"] == [("lede", "l"), ("eyecatcher", "q")]
    assert creatives[3]["elements"] == [("excerpt", "e"), ("eyecatcher", "p")]
    assert len(rows_of(open_inputs(DataConfig(path=str(arms), adapter="upworthy", drop_weeks=[])).impressions)) == 3


def test_monday() -> None:
    assert monday(201501).date() == datetime.date(2014, 12, 29)


def test_upworthy_without_a_column(arms: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(arms).rename_columns({"headline": "head_line"}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"no column 'headline' \(the copy\); did you mean 'head_line'\?"):
        open_inputs(DataConfig(path=str(tmp_path / "x.parquet"), adapter="upworthy"))


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    folder = tmp_path / "men"
    folder.mkdir()
    (folder / "item_context.csv").write_text(",item_id,item_feature_0,item_feature_1\n0,0,-0.677,aa\n1,1,0.25,bb\n2,2,1.0,aa\n")
    (folder / "men.csv").write_text(
        ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0\n"
        "0,2019-11-24 00:03:13.442536+00:00,2,3,0,0.25,u1,0.0\n"
        "1,2019-11-24 00:04:00+00:00,0,1,1,1e-06,u2,0.0\n"
        "2,2019-11-24 00:05:00+00:00,9,1,1,0.5,u2,0.0\n"
    )
    return folder


def test_open_bandit(campaign: Path) -> None:
    for path in (campaign, campaign / "men.csv"):
        inputs = open_inputs(DataConfig(path=str(path), adapter="open_bandit"))
        rows = rows_of(inputs.impressions)
        assert [row["request_id"] for row in rows] == ["men-0", "men-1", "men-2"]
        assert [(c["creative_id"], c["propensity"]) for c in rows[0]["candidates"]] == [("men-0", None), ("men-1", None), ("men-2", 0.25)]
        assert [row["exposed"] for row in rows] == [2, 0, 3]
        assert [row["position"] for row in rows] == [2, 0, 0] and [row["clicked"] for row in rows] == [0, 1, 1]
        assert rows[1]["candidates"][0]["propensity"] == pytest.approx(1e-6)
        assert rows[0]["user_feature_0"] == "u1" and rows[0]["sku_id"] == "men"
        creatives = rows_of(inputs.creatives)
        assert creatives[0] == {"creative_id": "men-0", "sku_id": "men", "elements": [("item_feature_0", "-0.7"), ("item_feature_1", "aa")]}


def test_open_bandit_folder_of_several_campaigns(campaign: Path) -> None:
    (campaign / "women.csv").write_text("x\n")
    with pytest.raises(DataError, match=r"holds men.csv, women.csv; give the folder of one campaign"):
        open_inputs(DataConfig(path=str(campaign), adapter="open_bandit"))


def mapped(path: Path, **columns: str) -> TableInput:
    return open_inputs(DataConfig(path=str(path), adapter="mapped", columns=columns)).impressions


def test_mapped_aggregated_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ad,pic,shows,hits\nx,a,10,1\ny,c,5,0\nx,b,20,4\n")
    table = mapped(tmp_path / "t.csv", request_id="ad", sku_id="ad", creative_id="pic", impressions="shows", clicks="hits")
    assert rows_of(table) == [
        {
            "request_id": "x",
            "sku_id": "x",
            "candidates": [
                {"creative_id": "a", "impressions": "10", "clicks": "1"},
                {"creative_id": "b", "impressions": "20", "clicks": "4"},
            ],
        },
        {"request_id": "y", "sku_id": "y", "candidates": [{"creative_id": "c", "impressions": "5", "clicks": "0"}]},
    ]


def test_mapped_exposure_flags(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("r,s,c,e,k\n1,s,a,0,\n1,s,b,1,1\n2,s,a,0,\n3,s,a,true,0\n3,s,b,True,1\n")
    rows = rows_of(mapped(tmp_path / "t.csv", request_id="r", sku_id="s", creative_id="c", exposed="e", clicked="k"))
    assert [(row["exposed"], row["clicked"], row[PROBLEM]) for row in rows[:2]] == [(1, "1", None), (None, None, None)]
    assert rows[2][PROBLEM] == "2 candidates are marked as exposed"


def test_mapped_parquet_lists(tmp_path: Path) -> None:
    table = pa.table(
        {"r": [1, 2, 3], "s": [7, 7, 7], "ids": [[5, 6], [], [5]], "p": [[0.5, 0.5], [], [0.1, 0.9]], "e": [0, 0, 0], "k": [1, 0, 0]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows = rows_of(mapped(tmp_path / "t.parquet", request_id="r", sku_id="s", candidates="ids", propensity="p", exposed="e", clicked="k"))
    assert rows[0]["candidates"] == [{"creative_id": 5, "propensity": 0.5}, {"creative_id": 6, "propensity": 0.5}]
    # The third row's lists differ in length.
    assert rows[1]["candidates"] == [] and not rows[2]["candidates"]
    assert [row[PROBLEM] for row in rows] == [None, None, "lists creative_id, propensity differ in length"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"request_id": "r", "sku_id": "s"}, "data.columns does not map 'candidates'; add `candidates: <your column>`"),
        ({"request_id": "r", "creative_id": "c"}, "data.columns does not map 'sku_id'"),
        (
            {"request_id": "r", "sku_id": "s", "candidates": "c", "cliked": "k"},
            "'cliked' is not a column of table 'impressions'.*did you mean 'clicked'",
        ),
    ],
)
def test_maps_that_are_wrong(tmp_path: Path, columns: dict, message: str) -> None:
    (tmp_path / "t.csv").write_text("r,s,c,k\n1,2,3,4\n")
    with pytest.raises(ConfigError, match=message):
        mapped(tmp_path / "t.csv", **columns)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adapter": "mapped"}, "adapter 'mapped' needs data.columns"),
        ({"columns": {"a": "b"}}, "data.columns is for adapter 'mapped', not 'standard'"),
        ({"drop_weeks": [[201402, 201325]]}, "drop_weeks span 201402..201325 ends before it begins"),
        ({"holdout": 1.0}, "'holdout' is 1.0"),
        ({"lane": 3}, "unknown field 'lane'; did you mean 'lanes'"),
    ],
)
def test_configs_that_are_wrong(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(DataConfig, {"path": "x"} | values, "run.yaml")
