"""Every shipped config is loaded, validated and dry-run: its checks are made, as far as they need nothing from outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from adray import kinds
from adray.errors import ArtifactError, DataError, ResourceError

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
# What only a machine with the data, the trained artifacts and free ports (and GPUs, where a config asks for them) can pass.
OUTSIDE = {DataError, ArtifactError}


@pytest.fixture(params=CONFIGS, ids=lambda p: str(p.relative_to(ROOT)))
def path(request, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    # All that any config names: a study's base run, or a base file, may need others than the file itself.
    for name in {name for config in CONFIGS for name in re.findall(r"\$\{(\w+)\}", config.read_text(encoding="utf-8"))}:
        monkeypatch.setenv(name, str(tmp_path / name))
    return request.param.relative_to(ROOT)


def test_there_are_configs():
    assert {"configs/demo.yaml", "configs/ranker-upworthy.yaml", "configs/serve.yaml"} <= {str(p.relative_to(ROOT)) for p in CONFIGS}


def test_dry_run(path, tmp_path):
    job = kinds.load_job(path, [f"runs_dir={tmp_path}"])
    verb = job.kind.main_verb
    job.require(verb)
    failed = {check.name: check.error for check in kinds.all_checks(job, verb) if check.error is not None}
    if getattr(job.config, "gpus", False):
        # Reached only where an earlier run left the table that the config reads; then this machine's lack of a GPU is the one refusal.
        assert isinstance(failed.pop("gpus", ResourceError("", "")), ResourceError)
    outside = OUTSIDE | ({ResourceError} if getattr(getattr(job.config, "training", None), "gpus", False) else set())
    assert {name: str(error) for name, error in failed.items() if type(error) not in outside} == {}


def test_the_name_is_the_files(path):
    """So that a run is found by its config and two shipped configs never share a folder."""
    assert kinds.load_job(path).config.name == path.stem


def test_it_says_how_it_is_run(path):
    text = path.read_text(encoding="utf-8")
    verb = kinds.load_job(path).kind.main_verb
    assert text.startswith("#")
    assert f"launch.py {verb} {path}" in text


def test_no_secrets_or_foreign_paths(path):
    text = path.read_text(encoding="utf-8")
    assert "api_key:" not in text.lower()
    values = yaml.safe_load(text)
    assert not [v for v in _texts(values) if v.startswith("/")]


def _texts(value):
    if isinstance(value, dict):
        return [t for v in value.values() for t in _texts(v)]
    if isinstance(value, list):
        return [t for v in value for t in _texts(v)]
    return [value] if isinstance(value, str) else []
