"""Studies with real processes: known figures come out, finished runs are read, one failure does not stop the others."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
import yaml

from adray import kinds
from adray.errors import TrainingError
from adray.kinds import KINDS, Kind

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def run_study(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, "echo", Kind("tests.helpers.echo_kind", "train"))
    monkeypatch.setitem(KINDS, "echo-world", Kind("tests.helpers.echo_kind", "simulate"))

    def execute(**values: object):
        base = {
            "kind": "study",
            "name": "s",
            "runs_dir": str(tmp_path),
            "run": {"kind": "echo"},
            "variants": {"plain": {}, "better": {"inner.effect": 0.5}},
            "seeds": [1, 2],
            "metrics": ["echo/value"],
            "reference": "plain",
            "parallel": 2,
        }
        job = kinds.make_job({**base, **values}, "s.yaml")
        return kinds.perform(job, "study")

    return execute


def starts(folder, name):
    return len((folder / "runs" / name / "starts").read_text())


def test_worlds_are_shared_and_differences_are_exact(run_study):
    run, report = run_study(world={"config": {"kind": "echo-world"}, "field": "world"}, metrics=["echo/value", "echo/pid"])
    metrics = report["metrics"]
    # value = 10 seed + effect + 100 seed of the world
    assert metrics["study/plain/echo/value"] == pytest.approx((110 + 220) / 2)
    assert metrics["study/better/echo/value/difference"] == 0.5
    assert metrics["study/better/echo/value/wins"] == 2
    frame = pd.read_parquet(run.folder / "study.parquet").query("metric == 'echo/value'").set_index("variant")
    assert frame.loc["better", "difference_low"] == frame.loc["better", "difference_high"] == 0.5
    cells = pd.read_csv(run.folder / "cells.csv")
    assert cells.query("metric == 'echo/pid'")["value"].nunique() == 4
    html = (run.folder / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert "2 of 2" in html
    saved = yaml.safe_load((run.folder / "runs" / "better-seed2" / "config.yaml").read_text())
    assert saved["world"] == str(run.folder / "worlds" / "seed2" / "tables")
    assert json.loads((run.folder / "runs" / "better-seed2" / "report.json").read_text())["metrics"]["echo/value"] == 220.5


def test_tables_are_made_of_each_world_and_given_to_its_runs(run_study):
    """The echo run's world is a folder with a file `bonus`; the table run makes one of its own from the world's."""
    table = {"config": {"kind": "echo-world"}, "reads": {"world": "."}, "field": "table"}
    run, report = run_study(world={"config": {"kind": "echo-world"}, "field": "world"}, tables={"half": table})
    # value = 10 seed + effect + 100 seed of the world + half of the world's bonus, from the table
    assert report["metrics"]["study/plain/echo/value"] == pytest.approx((110 + 220 + 50 + 100) / 2)
    saved = yaml.safe_load((run.folder / "runs" / "plain-seed2" / "config.yaml").read_text())
    assert saved["table"] == str(run.folder / "tables" / "half-seed2" / "tables" / "bonus")
    assert {"worlds", "tables", "runs"} <= set(report["seconds"])


def test_a_seed_whose_table_failed_is_left_out(run_study, tmp_path):
    table = {"config": {"kind": "echo-world", "fail": "seed 2"}, "reads": {"world": "."}, "field": "table"}
    with pytest.raises(TrainingError, match=r"1 of 8 runs failed: half of seed 2: its report names no table"):
        run_study(world={"config": {"kind": "echo-world"}, "field": "world"}, tables={"half": table})
    assert not (tmp_path / "s" / "runs" / "plain-seed2").exists()


def test_a_failing_run_is_named_and_the_others_finish(run_study, tmp_path):
    with pytest.raises(TrainingError) as caught:
        run_study(variants={"plain": {}, "better": {"fail": "seed 2"}, "dead": {"fail": "die"}, "buggy": {"fail": "bug"}})
    text = str(caught.value)
    assert "5 of 8 runs failed" in text
    assert "better seed 2: loss is nan at step 3; lower the learning rate" in text
    assert "dead seed 1: its process died" in text
    log = re.search(r"buggy seed 1: unexpected ZeroDivisionError: a bug of two lines \(traceback: (\S+)\)", text)
    assert log is not None
    with open(log.group(1)) as file:
        assert "ZeroDivisionError" in file.read()
    frame = pd.read_parquet(tmp_path / "s" / "study.parquet").set_index("variant")
    assert frame["seeds"].to_dict() == {"plain": 2, "better": 1, "dead": 0, "buggy": 0}


def test_resume_runs_only_what_is_missing_or_changed(run_study, tmp_path):
    folder = tmp_path / "s"
    with pytest.raises(TrainingError, match="1 of 4 runs failed"):
        run_study(run={"kind": "echo", "fail": "seed 2"}, variants={"plain": {"fail": ""}, "better": {}})
    assert [starts(folder, n) for n in ("plain-seed1", "plain-seed2", "better-seed1", "better-seed2")] == [1, 1, 1, 1]
    _, report = run_study(variants={"plain": {}, "better": {"inner.effect": 0.5}}, resume=True)
    # Plain runs have not changed; a changed run is made anew in an emptied folder.
    assert [starts(folder, n) for n in ("plain-seed1", "plain-seed2", "better-seed1", "better-seed2")] == [1, 1, 1, 1]
    assert report["metrics"]["study/better/echo/value"] == 15.5
    with pytest.raises(TrainingError, match="1 of 4"):
        run_study(variants={"plain": {}, "better": {"inner.effect": 0.5, "fail": "seed 1"}}, resume=True)
    with pytest.raises(TrainingError, match="1 of 4"):
        run_study(variants={"plain": {}, "better": {"inner.effect": 0.5, "fail": "seed 1"}}, resume=True)
    # The failed run was begun with the same config, so it is resumed; the finished ones are left alone.
    assert [starts(folder, n) for n in ("plain-seed1", "better-seed1", "better-seed2")] == [1, 2, 1]


def test_a_metric_that_no_run_reports_is_named(run_study):
    with pytest.raises(TrainingError, match="report has no 'echo/vale'; it has: echo/pid, echo/steps, echo/value"):
        run_study(metrics=["echo/vale"], seeds=[1], variants={"a": {}}, reference=None)


CHAIN = {
    "half": {"config": {"kind": "echo-world"}, "reads": {"world": "."}},
    "model": {"config": {"kind": "echo", "slope": 0}, "reads": {"world": {"from": "half", "output": "tables"}}, "gives": "artifacts"},
    "other": {"config": {"kind": "echo-world"}, "seed_offset": 1000},
    "sum": {
        "config": {"kind": "echo", "slope": 0},
        "reads": {"table": {"from": "model"}, "world": {"from": "other", "output": "tables"}},
        "gives": "artifacts",
    },
}
AFTER = {
    "judge": {
        "config": {"kind": "echo", "slope": 0},
        "reads": {"table": {"from": "run", "output": "export"}, "world": "."},
        "gives": "artifacts",
        "metrics": ["echo/value"],
        "prefix": "judged/",
    },
    "over": {
        "config": {"kind": "echo", "slope": 0},
        "reads": {"table": {"from": "judge"}, "world": {"from": "half", "output": "tables"}},
        "metrics": ["echo/value"],
        "prefix": "over/",
    },
}
WORLD = {"config": {"kind": "echo-world"}, "field": "world"}


def test_runs_chain_before_and_after_the_variants_and_go_on_where_they_stopped(run_study):
    gains = {"gain": {"metric": "over/echo/value", "variant": "better"}}
    variants = {"better": {"inner.effect": 0.5}}
    reads = {"world": ".", "table": {"from": "sum"}}
    settings = {
        "world": {**WORLD, "field": None},
        "tables": CHAIN,
        "reads": reads,
        "after": AFTER,
        "gains": gains,
        "variants": variants,
        "reference": None,
    }
    run, report = run_study(**settings)
    metrics = report["metrics"]
    # World 100 s, half 50 s, other world 100 (s + 1000). The run adds 10 s, 0.5, world, half and other; judge the world, over the half.
    value = sum(10 * s + 0.5 + 100 * s + 50 * s + 100 * (s + 1000) for s in (1, 2)) / 2
    assert metrics["study/better/echo/value"] == pytest.approx(value)
    assert metrics["study/better/judged/echo/value"] == pytest.approx(value + 150)
    assert metrics["study/better/over/echo/value"] == metrics["gain"] == pytest.approx(value + 150 + 75)
    # Two seeds that differ by 260 + 100 + 50: the mean and half of that times t(0.975, 1) = 12.7062.
    assert metrics["gain_upper"] - metrics["gain"] == pytest.approx(12.7062 * 410 / 2, rel=1e-4)
    assert metrics["gain"] - metrics["gain_lower"] == pytest.approx(12.7062 * 410 / 2, rel=1e-4)
    assert {"worlds", "tables", "runs", "after"} <= set(report["seconds"])
    saved = yaml.safe_load((run.folder / "after" / "judge-better-seed2" / "config.yaml").read_text())
    assert saved["table"] == str(run.folder / "runs" / "better-seed2" / "export")
    assert saved["world"] == str(run.folder / "worlds" / "seed2" / "tables")
    begun = {path: path.stat().st_mtime_ns for path in run.folder.glob("*/*/starts")}
    assert len(begun) == 10
    (run.folder / "after" / "over-better-seed1" / "reports" / "train.json").unlink()
    changed = run.folder / "tables" / "model-seed2" / "config.yaml"
    changed.write_text(changed.read_text().replace("steps: 1", "steps: 7"))
    _, again = run_study(**settings, resume=True)
    assert again["metrics"]["gain"] == metrics["gain"]
    # What had not finished, what was made with another config, and all that reads of that, through however many runs.
    redone = {path.parent.name for path, time in begun.items() if path.stat().st_mtime_ns != time}
    assert redone == {"over-better-seed1", "model-seed2", "sum-seed2", "better-seed2", "judge-better-seed2", "over-better-seed2"}


def test_a_step_that_fails_is_named_and_the_run_before_it_counts(run_study, tmp_path):
    after = {"judge": {**AFTER["judge"], "config": {"kind": "echo", "fail": "user"}}, "over": AFTER["over"]}
    with pytest.raises(TrainingError, match=r"1 of 5 runs failed: judge after a seed 1: loss is nan at step 3"):
        run_study(world=WORLD, tables={"half": CHAIN["half"]}, after=after, seeds=[1], variants={"a": {}}, reference=None)
    frame = pd.read_parquet(tmp_path / "s" / "study.parquet").set_index("metric")
    assert frame["seeds"].to_dict() == {"echo/value": 1, "judged/echo/value": 0, "over/echo/value": 0}
    assert not list((tmp_path / "s" / "after").glob("over-*"))
