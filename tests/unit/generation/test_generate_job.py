"""A whole generation in this process with stand-ins for the models: its tables, bad requests, going on."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from adray.artifact import load_artifact, writing_artifact
from adray.data.images import decode_image
from adray.data.labels import LABELS
from adray.data.schema import CREATIVES, FAILURES, GENERATED, VERDICTS
from adray.errors import DataError
from adray.generation.recurrent.config import GenerationRunConfig
from adray.generation.recurrent.job import generate_pictures
from adray.generation.recurrent.report import read_attempts
from adray.generation.recurrent.tools import Tools
from adray.generation.recurrent.worker import GenerateWorker
from tests.helpers.edge_cutouts import drawn, edge_cutouts, encoded
from tests.helpers.generation_requests import SIDE, coin_judge, noise_maker, request_rows, write_requests


def counts(done, *names):
    """Some of a job's figures."""
    figures = [int(done.metrics()[f"generation/{name}"]) for name in names]
    return tuple(figures) if len(figures) > 1 else figures[0]


TABLES = {"verdicts": VERDICTS, "creatives": CREATIVES, "generated": GENERATED, "failures": FAILURES}


@pytest.fixture
def job(tmp_path):
    """Config fields of a run, with an inspector's artifact that stands for the stand-in."""
    with writing_artifact(tmp_path / "rfnet", "rfnet", {}):
        pass
    (tmp_path / "generator").mkdir()

    def make(rows, **fields):
        values = {
            "kind": "generation",
            "name": "g",
            "data": {"requests": str(write_requests(tmp_path / "requests.parquet", rows, row_group=32)), "quarantine_limit": 1.0},
            "generator": str(tmp_path / "generator"),
            "inspector": str(tmp_path / "rfnet"),
            "placement": {"size": SIDE, "keep_loc": True, "multiple": 1},
            "prompts": {"entries": [{"prompt": "{title}, {colour} room"}], "colours": ["red", "blue", "green"]},
            "job": {"batch_rows": 5, "chunk_rows": 8},
        }
        return GenerationRunConfig.model_validate(values | fields)

    return make


def tools(chance, inspector="an inspector"):
    return Tools(noise_maker, coin_judge(chance), inspector)


def read(folder, name):
    table = pq.read_table(folder / name)
    key = TABLES[name].key if name in TABLES else "key"
    return {row[key]: row for row in table.to_pylist()}


def test_the_tables_tell_one_story(job, tmp_path):
    done = generate_pictures(job(request_rows(80)), tmp_path / "run", tools=tools(0.5))
    verdicts, creatives, generated, failures = (read(tmp_path / "run", name) for name in TABLES)
    for name, table in TABLES.items():
        found = pq.read_schema(next((tmp_path / "run" / name).glob("*.parquet")))
        allowed = {field.name: field.type for field in (*table.required, *table.optional)}
        assert {field.name: field.type for field in found}.items() <= allowed.items() and set(table.required.names) <= set(found.names)
    assert verdicts.keys() == generated.keys() and len(verdicts) == counts(done, "pictures")
    assert creatives.keys() == {key for key, row in verdicts.items() if row["accepted"]}
    assert (len(creatives), len(failures)) == counts(done, "accepted", "failed")
    assert len(creatives) + len(failures) == counts(done, "requests") == 80
    named = [row["sku_id"] for row in (*creatives.values(), *failures.values())]
    assert sorted(named) == [f"sku{i:03d}" for i in range(80)]
    for key, row in generated.items():
        verdict = verdicts[key]
        assert (row["prompt"], row["seed"], row["attempt"], row["accepted"], row["sku_id"]) == tuple(
            verdict[name] for name in ("prompt", "seed", "attempt", "accepted", "sku_id")
        )
        picture, product = decode_image(row["image"]["bytes"]), decode_image(row["cutout"]["bytes"])
        opaque = product[..., 3] == 255
        np.testing.assert_array_equal(picture[opaque], product[opaque][:, :3])
        expected = noise_maker(product[None], [""], [""], [row["seed"]])[0]
        np.testing.assert_array_equal(picture, expected)
        probabilities = dict(verdict["probabilities"])
        assert list(probabilities) == list(LABELS) and verdict["label"] == max(probabilities, key=probabilities.__getitem__)
        assert verdict["accepted"] == (verdict["label"] == "available") and verdict["inspector"] == "an inspector"
        if row["accepted"]:
            assert creatives[key]["image"] == row["image"] and creatives[key]["copy"] == row["copy"]
    began = json.loads((tmp_path / "run" / "provenance.json").read_text())["began"]
    assert {row["created_at"].isoformat() for row in creatives.values()} == {began}
    assert {row["source"] for row in creatives.values()} == {"generated"}


def test_failures_name_the_commonest_label_and_the_best_attempt(job, tmp_path):
    generate_pictures(job(request_rows(40), attempts=3), tmp_path / "run", tools=tools(0.1))
    verdicts, failures = read(tmp_path / "run", "verdicts"), read(tmp_path / "run", "failures")
    assert len(failures) >= 15
    for request, row in failures.items():
        tried = {key: one for key, one in verdicts.items() if key.rpartition(".")[0] == request}
        assert len(tried) == row["attempts"] == 3 and not any(one["accepted"] for one in tried.values())
        counts = Counter(one["label"] for one in tried.values())
        assert counts[row["label"]] == max(counts.values())
        available = {key: dict(one["probabilities"])["available"] for key, one in tried.items()}
        assert row["image_id"] == max(available, key=available.__getitem__) and row["available"] == max(available.values())


def test_the_rate_after_k_attempts_through_the_whole_job(job, tmp_path):
    generate_pictures(job(request_rows(250), attempts=4), tmp_path / "run", tools=tools(0.55))
    found = read_attempts(tmp_path / "run" / "verdicts", 4)
    assert found.wanted == found.tried[0] == 250
    np.testing.assert_array_equal(found.tried[1:], found.tried[:-1] - found.accepted[:-1])
    np.testing.assert_array_equal(found.labels[:, 0], found.accepted)
    for k, share in enumerate(found.available().tolist(), 1):
        low, high = binom.interval(1 - 1e-6, 250, 1 - 0.45**k)
        assert low <= 250 * share <= high
    assert found.independent().tolist() == pytest.approx([1 - (1 - found.available()[0]) ** k for k in (1, 2, 3, 4)])


BAD = {
    "no alpha": (encoded(np.full((SIDE, SIDE, 3), 200, np.uint8)), "kettle", "no alpha channel and no white background"),
    "empty": (encoded(np.full((SIDE, SIDE, 4), 90, np.uint8)), "kettle", "the product is empty: alpha is at most 90 of 255"),
    "clear": (encoded(np.zeros((SIDE, SIDE, 4), np.uint8)), "kettle", "the product is empty: alpha is 0 everywhere"),
    "unreadable": (b"not a picture", "kettle", "cutout: 13 bytes that are no known picture format"),
    "cut short": (encoded(drawn(SIDE, SIDE, (4, 4, 20, 20)))[:60], "kettle", "cutout: the picture cannot be decoded"),
    "absent": (None, "kettle", "cutout: there is no picture"),
    "full": (encoded(np.full((SIDE, SIDE, 4), 255, np.uint8)), "kettle", "the product covers the whole canvas"),
    "untitled": (encoded(drawn(SIDE, SIDE, (4, 4, 20, 20))), "  ", "the title is empty"),
    "null title": (encoded(drawn(SIDE, SIDE, (4, 4, 20, 20))), None, "the title is empty"),
}


def bad_rows():
    """In the columns of `request_rows`."""
    pictures = {key: None if data is None else {"bytes": data, "path": None} for key, (data, _, _) in BAD.items()}
    return [
        {"annotation_id": key, "sku_id": key, "cutout": pictures[key], "copy": title, "label": ""} for key, (_, title, _) in BAD.items()
    ]


def test_bad_requests_are_named_and_cost_nobody_else(job, tmp_path):
    odd = [{"sku_id": f"odd {name}", "cutout": {"bytes": data, "path": None}, "copy": name} for name, data in edge_cutouts().items()]
    good = [*request_rows(3), *odd]
    rows = [*good[:8], *bad_rows(), *good[8:], {"cutout": good[0]["cutout"], "copy": "nameless"}]
    done = generate_pictures(job(rows, placement={"size": SIDE, "image_scale": 0.7}), tmp_path / "run", tools=tools(1.0))
    quarantine = read(tmp_path / "run", "quarantine")
    assert {key for key in quarantine if "row" not in key} == {*BAD} - {"full"}
    for key, (_, _, reason) in BAD.items():
        assert key == "full" or quarantine[key]["reason"].startswith(reason), key
    (nameless,) = (row for key, row in quarantine.items() if "row" in key)
    assert nameless["reason"] == "sku_id is null" and nameless["table"] == "requests" and nameless["stage"] == "generate"
    assert counts(done, "quarantined", "accepted") == (len(BAD), len(good) + 1)
    made = {row["sku_id"] for row in read(tmp_path / "run", "creatives").values()}
    assert made == {row["sku_id"] for row in good} | {"full"}


def test_a_product_that_fills_its_picture_is_refused_where_it_stays(job, tmp_path):
    generate_pictures(job([*request_rows(2), *bad_rows()]), tmp_path, tools=tools(1.0))
    assert read(tmp_path, "quarantine")["full"]["reason"] == "the product covers the whole canvas, so that nothing is left to paint"


def test_titles_are_not_needed_by_prompts_without_their_slot(job, tmp_path):
    config = job(bad_rows(), prompts={"entries": [{"prompt": "a table"}]}, placement={"size": SIDE})
    done = generate_pictures(config, tmp_path, tools=tools(1.0))
    assert {row["sku_id"] for row in read(tmp_path, "creatives").values()} == {"untitled", "null title", "full"}
    assert counts(done, "quarantined") == 6


def test_too_many_bad_requests_stop_the_run(job, tmp_path):
    config = job([*request_rows(60), *bad_rows()])
    config = config.model_copy(update={"data": config.data.model_copy(update={"quarantine_limit": 0.05})})
    with pytest.raises(DataError, match=r"table 'requests': \d+ of 69 rows .* limit 5.00%; first"):
        generate_pictures(config, tmp_path / "run", tools=tools(1.0))


def test_malformed_lines_are_quarantined_and_stay_so(job, tmp_path):
    """A CSV of paths: its requests are written apart, its broken line is lost before there are items."""
    (tmp_path / "a.png").write_bytes(encoded(drawn(SIDE, SIDE, (4, 4, 20, 20))))
    (tmp_path / "requests.csv").write_text("sku_id,cutout,title\np1,a.png,kettle\np2,a.png\np3,a.png,chair\np1,a.png,again\n")
    config = job(request_rows(1))
    config = config.model_copy(update={"data": config.data.model_copy(update={"requests": str(tmp_path / "requests.csv")})})
    for _ in range(2):
        done = generate_pictures(config, tmp_path / "run", tools=tools(1.0))
        assert counts(done, "requests", "quarantined", "repeats", "accepted") == (2, 1, 1, 2)
        assert [row["reason"] for row in read(tmp_path / "run", "quarantine").values()] == ["2 columns instead of 3"]


class _DiesAfter:
    """Tools whose generator fails after some batches."""

    def __init__(self, batches):
        self.left = batches

    def __call__(self, *given):
        if self.left == 0:
            raise RuntimeError("the lights went out")
        self.left -= 1
        return noise_maker(*given)


def tables_of(folder):
    return {name: sorted(pq.read_table(folder / name).to_pylist(), key=str) for name in (*TABLES, "quarantine")}


def without_times(tables):
    return {name: [{k: v for k, v in row.items() if k != "created_at"} for row in rows] for name, rows in tables.items()}


@pytest.mark.parametrize("batches", [0, 1, 7, 11])
def test_a_run_that_broke_off_ends_as_if_it_had_not(job, tmp_path, monkeypatch, batches):
    config = job([*request_rows(60, per_sku=2), *bad_rows()], per_request=2)
    generate_pictures(config, tmp_path / "straight", tools=tools(0.4))
    with pytest.raises(RuntimeError):
        generate_pictures(config, tmp_path / "broken", tools=Tools(_DiesAfter(batches), coin_judge(0.4), "an inspector"))
    recorded = {path.stem for path in (tmp_path / "broken" / "done").glob("*.json")}
    redone = []
    run = GenerateWorker.run
    monkeypatch.setattr(GenerateWorker, "run", lambda self, item: redone.append(item.name) or run(self, item))
    done = generate_pictures(config, tmp_path / "broken", tools=tools(0.4))
    assert not recorded & set(redone) and len(recorded) + len(redone) == len(list((tmp_path / "straight" / "done").glob("*.json")))
    found = tables_of(tmp_path / "broken")
    assert without_times(found) == without_times(tables_of(tmp_path / "straight"))
    assert len({row["created_at"] for row in found["creatives"]}) == 1
    assert counts(done, "pictures_new") <= counts(done, "pictures") and not list((tmp_path / "broken").rglob("*.partial"))


@pytest.mark.parametrize("fields", [{"seed": 1}, {"attempts": 2}, {"threshold": 0.7}, {"prompts": {"entries": [{"prompt": "a"}]}}])
def test_a_folder_of_another_generation_is_refused(job, tmp_path, fields):
    generate_pictures(job(request_rows(4)), tmp_path / "run", tools=tools(1.0))
    with pytest.raises(DataError, match=f"holds pictures of {next(iter(fields))} "):
        generate_pictures(job(request_rows(4), **fields), tmp_path / "run", tools=tools(1.0))


def test_another_inspector_is_another_generation(job, tmp_path):
    generate_pictures(job(request_rows(4)), tmp_path / "run", tools=tools(1.0))
    with writing_artifact(tmp_path / "rfnet", "rfnet", {"other": 1}):
        pass
    assert load_artifact(tmp_path / "rfnet").config == {"other": 1}
    with pytest.raises(DataError, match="holds pictures of inspector"):
        generate_pictures(job(request_rows(4)), tmp_path / "run", tools=tools(1.0))


def test_without_an_inspector_every_first_picture_is_kept(job, tmp_path):
    config = job(request_rows(6), inspector=None, per_request=3, attempts=4)
    done = generate_pictures(config, tmp_path, tools=Tools(noise_maker))
    assert counts(done, "pictures", "accepted", "failed") == (18, 18, 0)
    assert "generation/inspect_pictures_per_s" not in done.metrics() and "generation/generate_pictures_per_s" in done.metrics()
    generated = read(tmp_path, "generated")
    assert {row["attempt"] for row in generated.values()} == {0} and all(row["accepted"] for row in generated.values())
    assert len({row["seed"] for row in generated.values()}) == 18
    assert len(read(tmp_path, "creatives")) == 18 and not read(tmp_path, "verdicts") and not read(tmp_path, "failures")


def test_refused_pictures_need_not_be_kept(job, tmp_path):
    config = job(request_rows(40), attempts=2)
    generate_pictures(config, tmp_path / "all", tools=tools(0.3))
    generate_pictures(config.model_copy(update={"keep_refused": False}), tmp_path / "few", tools=tools(0.3))
    every, few = read(tmp_path / "all", "generated"), read(tmp_path / "few", "generated")
    best = {row["image_id"] for row in read(tmp_path / "few", "failures").values()}
    assert few.keys() == read(tmp_path / "few", "creatives").keys() | best and len(few) == 40
    assert all(every[key] == row for key, row in few.items())
    assert tables_of(tmp_path / "all")["verdicts"] == tables_of(tmp_path / "few")["verdicts"]


def test_pictures_of_several_shapes_and_scales(job, tmp_path):
    """Two entries of prompts lay products differently; pictures that stay in place keep their own shape."""
    rows = request_rows(9)
    for row in rows[::2]:
        row["cutout"] = {"bytes": encoded(drawn(64, 32, (20, 8, 40, 28))), "path": None}
    done = generate_pictures(job(rows, attempts=2), tmp_path / "kept", tools=tools(0.0))
    shapes = Counter(decode_image(row["image"]["bytes"]).shape for row in read(tmp_path / "kept", "generated").values())
    assert shapes == {(32, 64, 3): 10, (32, 32, 3): 8} and counts(done, "failed") == 9
    entries = [{"prompt": "a"}, {"prompt": "b", "image_scale": 0.5}]
    generate_pictures(job(rows, attempts=2, prompts={"entries": entries}, placement={"size": 40}), tmp_path / "laid", tools=tools(0.0))
    for row in read(tmp_path / "laid", "generated").values():
        inside = decode_image(row["cutout"]["bytes"])[..., 3] > 127
        longest = max(inside.any(axis=0).sum(), inside.any(axis=1).sum())
        assert (row["prompt"], longest) in {("a", 28), ("b", 20)}


def test_every_attempt_stands_at_a_foot_of_its_own(job, tmp_path):
    config = job(request_rows(12), attempts=3, placement={"size": SIDE, "image_scale": 0.4, "foot": [0.5, 1.0]})
    generate_pictures(config, tmp_path / "run", tools=tools(0.0))
    feet: dict[str, set[int]] = {}
    for row in read(tmp_path / "run", "generated").values():
        picture, cutout = decode_image(row["image"]["bytes"]), decode_image(row["cutout"]["bytes"])
        product = cutout[..., 3] == 255
        np.testing.assert_array_equal(picture[product], cutout[product][:, :3])
        feet.setdefault(row["request_id"], set()).add(int(np.flatnonzero(product.any(axis=1))[-1]) + 1)
    assert len(feet) == 12 and all(SIDE // 2 <= foot <= SIDE for each in feet.values() for foot in each)
    assert sum(len(each) for each in feet.values()) > 24


def test_tables_are_as_declared(job, tmp_path):
    generate_pictures(job(request_rows(3)), tmp_path, tools=tools(1.0))
    assert pq.read_schema(tmp_path / "failures" / "none.parquet").names == [*FAILURES.required.names, *FAILURES.optional.names]
    assert pa.types.is_map(pq.read_schema(next((tmp_path / "verdicts").glob("part-*.parquet"))).field("probabilities").type)
