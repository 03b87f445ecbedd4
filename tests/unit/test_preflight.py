"""General pre-flight checks, each made to fail."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from types import SimpleNamespace

from adray import preflight
from adray.config import RunConfig
from adray.errors import ConfigError, ResourceError, RunExistsError
from adray.preflight import TESTED, general_checks, nearest_folder
from adray.run import open_run

ROOT = Path(__file__).parents[2]


def look(tmp_path, owns_folder=True, **values):
    config = RunConfig(**{"kind": "ranker", "name": "a", "runs_dir": str(tmp_path / "runs"), **values})
    return {check.name: check for check in general_checks(config, owns_folder=owns_folder)}


def test_all_is_well_here(tmp_path):
    checks = look(tmp_path)
    assert [name for name, check in checks.items() if check.error] == []
    assert list(checks) == ["config", "python", "packages", "memory", "storage writable", "disk", "run name"]
    assert not (tmp_path / "runs").exists()


def test_tested_versions_are_the_pinned_ones():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split(";")[0].split("==") for line in lines if not line.startswith("#"))
    assert {name: pinned[name] for name in TESTED} == TESTED


def test_an_untested_version_is_told_and_a_refused_one_stops(tmp_path, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.7" if name == "torch" else real(name))
    check = look(tmp_path)["packages"]
    assert check.error is None and "torch 2.13.7 (tested: 2.13.0)" in check.detail
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.61.0" if name == "ray" else real(name))
    check = look(tmp_path)["packages"]
    assert isinstance(check.error, ResourceError) and re.search(r"package ray is 2.61.0, adray needs ==2.60.\*", str(check.error))


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "simplejpeg":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "package simplejpeg is not installed; run `pip install" in str(look(tmp_path)["packages"].error)


def test_old_python(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.sys, "version_info", (3, 9, 1))
    assert isinstance(look(tmp_path)["python"].error, ResourceError)


def test_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**29, total=2**31))
    assert str(look(tmp_path)["memory"].error).startswith("0.5 GiB of memory free, at least 1.0 GiB needed")


def test_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**29))
    assert "0.5 GiB free at" in str(look(tmp_path)["disk"].error)


def test_storage_that_cannot_be_written_to(tmp_path):
    checks = look(tmp_path, runs_dir="/proc/adray")
    error = checks["storage writable"].error
    assert isinstance(error, ResourceError) and "/proc cannot be written to" in str(error)
    assert "disk" not in checks


def test_storage_must_be_mounted(tmp_path):
    error = look(tmp_path, runs_dir="s3://bucket/runs")["storage writable"].error
    assert isinstance(error, ConfigError) and "s3://bucket/runs" in str(error)


def test_run_names(tmp_path):
    config = RunConfig(kind="ranker", name="a", runs_dir=str(tmp_path / "runs"))
    open_run(config, owns_folder=True)
    assert isinstance(look(tmp_path)["run name"].error, RunExistsError)
    assert look(tmp_path, resume=True)["run name"].error is None
    assert look(tmp_path, replace=True)["run name"].error is None
    assert isinstance(look(tmp_path, replace=True, resume=True)["run name"].error, ConfigError)
    assert "reads" in look(tmp_path, owns_folder=False)["run"].detail
    assert "makes" in look(tmp_path, owns_folder=False, name="b")["run"].detail


def test_nearest_folder(tmp_path):
    assert nearest_folder(tmp_path / "x" / "y") == tmp_path
    assert nearest_folder(tmp_path) == tmp_path


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    assert nearest_folder(tmp_path / "runs" / "a") == tmp_path
    error = look(tmp_path)["storage writable"].error
    assert isinstance(error, ConfigError) and f"{tmp_path / 'runs'} is a file" in str(error)
