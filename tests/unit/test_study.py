"""A study's config: what is refused, and what its checks look at, before anything runs."""

from __future__ import annotations

import pytest

from adray import study, study_config
from adray.checks import raise_first
from adray.config import validate
from adray.errors import ConfigError, DataError
from adray.kinds import KINDS, Kind
from adray.study_config import StudyConfig
from adray.study_steps import levels

STEP = {"config": {"kind": "echo"}, "metrics": ["echo/value"]}
WORLD = {"config": {"kind": "echo-world"}, "field": "world"}


@pytest.fixture
def make(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, "echo", Kind("tests.helpers.echo_kind", "train"))
    monkeypatch.setitem(KINDS, "echo-world", Kind("tests.helpers.echo_kind", "simulate"))

    def build(**values: object) -> StudyConfig:
        base = {
            "kind": "study",
            "name": "s",
            "runs_dir": str(tmp_path),
            "run": {"kind": "echo", "steps": 3},
            "variants": {"a": {}, "b": {"inner.effect": 1}},
            "seeds": [0, 1],
            "metrics": ["echo/value"],
        }
        return validate(StudyConfig, {**base, **values}, "s.yaml")

    return build


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"reference": "c"}, "reference is 'c'; it must be one of the variants: a, b"),
        ({"seeds": [1, 1]}, "each seed must be named once"),
        ({"lower_is_better": ["x"]}, "lower_is_better names 'x'"),
        ({"seeds": []}, "field 'seeds'"),
        ({"variants": {}}, "field 'variants'"),
        ({"confidence": 95}, "field 'confidence' is 95"),
        ({"after": {"j": {**STEP, "reads": {"table": {"from": "jj", "output": "x"}}}}}, "reads.table is from 'jj'; it must be one of run"),
        ({"after": {"j": {**STEP, "reads": {"table": {"from": "run"}}}}}, "is from 'run'; say which output"),
        ({"after": {"j": {**STEP, "reads": {"table": "x"}}}}, r"after\.j\.reads\.table is in the world's folder; set world"),
        ({"reads": {"table": {"from": "t"}}}, "reads.table is from 't'; it must be one of tables: none"),
        ({"reads": {"table": "bonus"}}, "reads.table is in the world's folder; set world"),
        ({"after": {"run": STEP}}, "'run' is what steps call the variant's run"),
        ({"after": {"j": STEP, "k": STEP}}, "metric 'echo/value' comes from two steps; give one of them a prefix"),
        ({"gains": {"g": {"metric": "other", "variant": "a"}}}, "metric is 'other'; it must be one of the metrics: echo/value"),
        ({"gains": {"g": {"metric": "echo/value", "variant": "a", "over": ["z"]}}}, "names 'z'; it must be one of the variants"),
        ({"curves": {"c": {"x": "echo/value", "y": "q", "lines": {"l": ["a"]}}}}, "curves.c names 'q'; it must be one of the metrics"),
        ({"curves": {"c": {"x": "echo/value", "y": "echo/value", "lines": {"l": ["a", "z"]}}}}, "curves.c names 'z'; it must be one"),
    ],
)
def test_wrong_fields(make, values, text):
    with pytest.raises(ConfigError, match=text):
        make(**values)


def test_every_variant_is_validated_before_anything_runs(make):
    config = make(variants={"a": {}, "b": {"inner.efect": 1}})
    with pytest.raises(ConfigError, match=r"variant 'b': unknown field 'inner.efect'; did you mean 'effect'\?"):
        raise_first(study.checks(config, "study"))


def test_the_base_runs_own_checks_are_made(make):
    with pytest.raises(DataError, match="table x is missing"):
        raise_first(study.checks(make(run={"kind": "echo", "fail": "check"}), "study"))


def test_with_a_world_its_checks_are_made_instead(make):
    config = make(run={"kind": "echo", "fail": "check"}, world={"config": {"kind": "echo-world"}, "field": "world"})
    names = [check.name for check in raise_first(study.checks(config, "study"))]
    assert names[:2] == ["variants", "parallel"]
    with pytest.raises(ConfigError, match="unknown field 'wrld'; did you mean 'world'"):
        raise_first(study.checks(make(world={"config": {"kind": "echo-world"}, "field": "wrld"}), "study"))


def test_tables_are_made_of_a_world_and_validated(make):
    table = {"config": {"kind": "echo"}, "reads": {"world": "."}, "field": "table"}
    with pytest.raises(ConfigError, match=r"tables\.t is made of a world; set world"):
        make(tables={"t": table})
    world = {"config": {"kind": "echo-world"}, "field": "world"}
    wrong = make(world=world, tables={"t": {**table, "reads": {"wrld": "."}}})
    with pytest.raises(ConfigError, match="table 't': unknown field 'wrld'; did you mean 'world'"):
        raise_first(study.checks(wrong, "study"))
    misplaced = make(world=world, tables={"t": {**table, "field": "bonsu"}})
    with pytest.raises(ConfigError, match="unknown field 'bonsu'"):
        raise_first(study.checks(misplaced, "study"))


def test_the_base_run_may_be_a_file(make, tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text("kind: echo\nsteps: 3\n")
    assert raise_first(study.checks(make(run=str(path)), "study"))
    with pytest.raises(ConfigError, match="absent.yaml does not exist"):
        raise_first(study.checks(make(run="absent.yaml"), "study"))


def test_parallel_fills_the_machine(make, monkeypatch):
    monkeypatch.setattr(study_config, "usable_cpus", lambda: 8)
    assert make().at_a_time() == 8
    assert make(cpus_per_run=3).at_a_time() == 2
    assert make(cpus_per_run=9).at_a_time() == 1
    assert make(parallel=3).at_a_time() == 3


def table(*sources, **reads):
    return {"config": {"kind": "echo"}, "reads": {**reads, **{f"f{i}": {"from": source} for i, source in enumerate(sources)}}}


def test_entries_read_only_those_above_them(make):
    config = make(world=WORLD, tables={"a": table(), "b": table("a"), "c": table(world="."), "d": table("b", "c")})
    assert levels(config.tables) == [["a", "c"], ["b"], ["d"]]
    with pytest.raises(ConfigError, match=r"tables\.a\.reads\.f0 is from 'b'; it must be an entry above it, and there is none"):
        make(world=WORLD, tables={"a": table("b"), "b": table()})
    with pytest.raises(ConfigError, match=r"tables\.b\.reads\.f0 is from 'run'; it must be one of a"):
        make(world=WORLD, tables={"a": table(), "b": table("run")})
    with pytest.raises(ConfigError, match=r"after\.a has the name of an entry of tables"):
        make(world=WORLD, tables={"a": table()}, after={"a": STEP})


def test_what_steps_report_is_compared_too(make):
    config = make(after={"j": {**STEP, "prefix": "j/"}, "k": {**STEP, "metrics": ["x"]}}, lower_is_better=["x"])
    assert config.compared() == ["echo/value", "j/echo/value", "x"]
    assert make(metrics=["x", "echo/value"], after={"k": {**STEP, "metrics": ["x"]}}).compared() == ["x", "echo/value"]


def test_every_step_is_validated_before_anything_runs(make):
    after = {"j": {**STEP, "prefix": "j/", "reads": {"tabel": {"from": "run", "output": "export"}}}}
    with pytest.raises(ConfigError, match="step 'j': unknown field 'tabel'; did you mean 'table'"):
        raise_first(study.checks(make(after=after), "study"))
    after["j"]["reads"] = {"table": {"from": "run", "output": "export"}}
    assert raise_first(study.checks(make(after=after), "study"))
    chained = {"t": {"config": {"kind": "echo"}, "gives": "artifacts"}, "u": {**table(), "reads": {"tabel": {"from": "t"}}}}
    with pytest.raises(ConfigError, match="table 'u': unknown field 'tabel'"):
        raise_first(study.checks(make(world=WORLD, tables=chained), "study"))
