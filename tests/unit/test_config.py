"""Configuration: one line per mistake, with the field's path, the value and the nearest valid name."""

from __future__ import annotations

import os
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from adray.config import Config, PathStr, RunConfig, apply_overrides, dump_yaml, expand_path, merge, read_yaml, validate
from adray.errors import ConfigError


class Tower(Config):
    width: int = Field(default=8, ge=1)
    """Units."""
    layers: list[int] = [4, 4]


class Model(RunConfig):
    tower: Tower = Tower()
    towers: dict[str, Tower] = {}
    either: Tower | None = None
    path: PathStr = "x"


def build(**values: object) -> Model:
    return validate(Model, {"kind": "k", "name": "n", **values}, "f.yaml")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"towr": {}}, "f.yaml: unknown field 'towr'; did you mean 'tower'?"),
        ({"tower": {"widht": 3}}, "f.yaml: unknown field 'tower.widht'; did you mean 'width'?"),
        ({"either": {"layrs": 3}}, "f.yaml: unknown field 'either.layrs'; did you mean 'layers'?"),
        ({"tower": {"qqq": 3}}, "f.yaml: unknown field 'tower.qqq'; valid here: layers, width"),
        ({"tower": {"width": 0}}, "f.yaml: field 'tower.width' is 0: Input should be greater than or equal to 1"),
        ({"tower": {"layers": [1, "a"]}}, "f.yaml: field 'tower.layers.1' is 'a': Input should be a valid integer"),
        ({"seed": -1}, "f.yaml: field 'seed' is -1: Input should be greater than or equal to 0"),
        ({"name": ""}, "f.yaml: field 'name' is ''"),
        ({"name": "../up"}, "f.yaml: field 'name' is '../up'"),
        ({"tower": {"width": 0, "layers": 3}}, "(and 1 more)"),
    ],
)
def test_wrong_fields_in_one_line(values, text):
    with pytest.raises(ConfigError) as caught:
        build(**values)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_required_field_is_told_by_its_misspelling():
    with pytest.raises(ConfigError, match=re.escape("unknown field 'nmae' (and 1 more); did you mean 'name'?")):
        validate(Model, {"kind": "k", "nmae": "n"}, "f.yaml")
    with pytest.raises(ConfigError, match=re.escape("field 'name' is missing; add it or pass --set name=...")):
        validate(Model, {"kind": "k"}, "f.yaml")


def test_defaults_are_validated_too():
    class Wrong(Config):
        width: int = Field(default=0, ge=1)

    with pytest.raises(ConfigError, match="field 'width' is 0"):
        validate(Wrong, {}, "f.yaml")


def test_paths(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGS", "/data/logs")
    assert build(path="a/b").path == str(tmp_path / "a/b")
    assert build(path="${LOGS}/x.parquet").path == "/data/logs/x.parquet"
    assert build(path="s3://bucket/key").path == "s3://bucket/key"
    assert build(path="~/x").path == os.path.expanduser("~/x")
    assert build().runs_dir == str(tmp_path / "runs")


def test_an_unset_or_empty_variable_is_named(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    line = r"field 'path' is '\$\{NOWHERE\}/x': environment variable NOWHERE is %s; export NOWHERE=\.\.\., or --set this field"
    with pytest.raises(ConfigError, match=line % "not set"):
        build(path="${NOWHERE}/x")
    monkeypatch.setenv("NOWHERE", "")
    with pytest.raises(ConfigError, match=line % "empty"):
        build(path="${NOWHERE}/x")
    monkeypatch.delenv("NOWHERE")
    with pytest.raises(ValueError, match="NOWHERE"):
        expand_path("${NOWHERE}")


def test_only_path_fields_read_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "s3cr3t")
    with pytest.raises(ConfigError) as caught:
        build(name="${SECRET}")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("tower.width=5", 5),
        ("tower.width=1e-3", 0.001),
        ("tower.width=-2.5E3", -2500.0),
        ("tower.width=true", True),
        ("tower.width=[1, 2]", [1, 2]),
        ("tower.width=null", None),
        ("tower.width=a=b", "a=b"),
        ("tower.width=a: b: c", "a: b: c"),
        ("tower.width='5'", "5"),
        ("tower.width=", None),
        ("tower.width=e5", "e5"),
    ],
)
def test_override_values_are_yaml(override, value):
    result = apply_overrides({"tower": {"width": 1, "layers": [1]}}, [override])
    assert result["tower"] == {"width": value, "layers": [1]}
    assert type(result["tower"]["width"]) is type(value)


def test_overrides_make_sections_and_leave_the_original():
    values = {"a": {"b": 1}, "n": None}
    assert apply_overrides(values, ["c.d.e=2", "a.b=3", "n.x=1"]) == {"a": {"b": 3}, "n": {"x": 1}, "c": {"d": {"e": 2}}}
    assert values == {"a": {"b": 1}, "n": None}


@pytest.mark.parametrize(
    ("override", "text"), [("a", "not of the form"), ("=3", "not of the form"), ("a.b.c=3", "'b' holds 1, not a section")]
)
def test_wrong_overrides(override, text):
    with pytest.raises(ConfigError, match=text):
        apply_overrides({"a": {"b": 1}}, [override])


def test_base_files_are_merged_underneath(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "ground.yaml").write_text("a: 1\nnested: {x: 1, y: [1, 2]}\n")
    (tmp_path / "base.yaml").write_text("base: ground.yaml\nb: 2\n")
    (tmp_path / "sub" / "top.yaml").write_text("base: ../base.yaml\nnested: {y: [3]}\n")
    assert read_yaml(tmp_path / "sub" / "top.yaml") == {"a": 1, "b": 2, "nested": {"x": 1, "y": [3]}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"- a\n", "holds list, not a mapping"),
        (b"", "holds NoneType"),
        (b"a: [", "is not valid YAML"),
        (b"\xff\xfe\xff", r"a.yaml is not a text file \(UTF-8\); name the run's YAML file"),
        (b"PAR1\x00\x15", r"a.yaml is not a text file \(UTF-8\); name the run's YAML file"),
    ],
)
def test_wrong_files(tmp_path, content, text):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=text):
        read_yaml(tmp_path / "a.yaml")


def test_a_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "ranker.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="did you mean ranker.yaml"):
        read_yaml(tmp_path / "rankr.yaml")


def test_a_folder_or_an_unreadable_file_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match=f"config {tmp_path} is a folder, not a file; name a YAML file"):
        read_yaml(tmp_path)
    (tmp_path / "b.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=f"is a folder, not a file; name one of its files, for example {tmp_path / 'b.yaml'}"):
        read_yaml(tmp_path)
    # A file that nobody can read from its beginning, root neither.
    with pytest.raises(ConfigError, match="/proc/self/mem cannot be read: Input/output error; check its permissions") as caught:
        read_yaml("/proc/self/mem")
    assert "Errno" not in str(caught.value)


def test_yaml_code_is_not_executed(tmp_path):
    (tmp_path / "a.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_the_dump_reads_back_as_the_same_config():
    config = build(tower={"width": 3}, towers={"a": {"layers": [1]}})
    assert validate(Model, yaml.safe_load(dump_yaml(config)), "dump") == config
    assert dump_yaml(config).startswith("kind: k\nname: n\n")


def test_field_docstrings_become_descriptions():
    assert Tower.model_fields["width"].description == "Units."


trees = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
mappings = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@given(mappings, mappings)
def test_merge_keeps_the_upper_leaves_and_adds_the_lower(under, over):
    result = merge(under, over)
    assert merge(under, {}) == under and merge({}, over) == over
    assert merge(result, over) == result
    assert set(result) == set(under) | set(over)
    for key, value in over.items():
        if not isinstance(value, dict) or not isinstance(under.get(key), dict):
            assert result[key] == value
