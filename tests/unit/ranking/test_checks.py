from __future__ import annotations

from pathlib import Path

import pytest

from adray.config import dump_yaml
from adray.errors import AdrayError, ArtifactError, ConfigError
from adray.kinds import make_job, perform
from adray.ranking import checks
from adray.ranking.run_config import RankerRunConfig


def _config(folder: Path, **fields) -> RankerRunConfig:
    return RankerRunConfig.model_validate(
        {"kind": "ranker", "name": "r", "runs_dir": str(folder), "data": {"path": str(folder / "none.parquet")}, **fields}
    )


def _errors(config: RankerRunConfig, verb: str) -> list[AdrayError]:
    return [check.error for check in checks.run_checks(config, verb) if check.error is not None]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs folder of a run `r` that has a config and, as far as these checks look, a checkpoint."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text(dump_yaml(_config(tmp_path)), encoding="utf-8")
    monkeypatch.setattr(checks, "list_checkpoints", lambda folder: [folder / "step-00000001"])
    return tmp_path


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_a_verb_before_training_says_so_and_does_not_take_the_name(tmp_path: Path, verb: str) -> None:
    (tmp_path / "log.csv").write_text("request_id,sku_id\n1,2\n", encoding="utf-8")
    values = {"kind": "ranker", "name": "r", "runs_dir": str(tmp_path), "data": {"path": str(tmp_path / "log.csv")}}
    with pytest.raises(ArtifactError, match="train it first"):
        perform(make_job(values, "test"), verb)
    assert not (tmp_path / "r").exists()


def test_an_interrupted_run_is_to_be_exported_before_it_is_evaluated(started: Path) -> None:
    (error,) = _errors(_config(started), "evaluate")
    assert "export" in error.cure and "resume=true" in error.cure


def test_resuming_with_another_model_names_the_field_and_both_values(started: Path) -> None:
    changed = _config(started, resume=True, model={"light": {"creative": {"dim": 24}}})
    (error,) = _errors(changed, "train")
    assert isinstance(error, ConfigError)
    usual = _config(started).model.light.creative.dim
    assert "'model.light.creative.dim' is 24" in error.problem and f"with {usual}" in error.problem


def test_the_same_model_may_go_on_and_be_exported(started: Path) -> None:
    assert _errors(_config(started, resume=True), "train") == []
    assert _errors(_config(started), "export") == []
