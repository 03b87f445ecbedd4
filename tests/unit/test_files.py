"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json

import pytest

from adray.files import replacing_folder, write_json, write_text


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_appears_when_the_block_ends(tmp_path):
    with replacing_folder(tmp_path / "deep" / "a") as partial:
        (partial / "x").write_text("1")
        assert not (tmp_path / "deep" / "a").exists()
    assert (tmp_path / "deep" / "a" / "x").read_text() == "1"
    assert names(tmp_path / "deep") == ["a"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("old", "new"):
        with replacing_folder(tmp_path / "a") as partial:
            (partial / name).touch()
    assert names(tmp_path / "a") == ["new"]
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    with replacing_folder(tmp_path / "a") as partial:
        (partial / "old").touch()
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "a") as partial:
        (partial / "new").touch()
        raise RuntimeError
    assert names(tmp_path / "a") == ["old"]
    assert names(tmp_path) == ["a"]


def test_text_is_replaced_and_a_failure_leaves_the_old(tmp_path):
    write_text(tmp_path / "sub" / "a", "one")
    write_text(tmp_path / "sub" / "a", "zwei \u00fc")
    assert (tmp_path / "sub" / "a").read_text(encoding="utf-8") == "zwei \u00fc"
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "sub" / "a", "\ud800")
    assert (tmp_path / "sub" / "a").read_text(encoding="utf-8") == "zwei \u00fc"
    assert names(tmp_path / "sub") == ["a"]


def test_json_keeps_key_order(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": ["\u00e9"]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"b": 1, "a": ["\u00e9"]}
    assert text.index('"b"') < text.index('"a"')
    assert "\u00e9" in text and text.endswith("\n")
