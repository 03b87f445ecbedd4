"""The run: who may open a folder, and what its report says."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import pytest

from adray.config import Config, RunConfig
from adray.errors import ConfigError, RunExistsError
from adray.run import CONFIG_FILE, REPORT_FILE, Run, open_run, read_report, versions


def config(tmp_path, **values):
    return RunConfig(kind="ranker", name="a", runs_dir=str(tmp_path), **values)


def test_a_new_run_saves_its_config(tmp_path):
    run = open_run(config(tmp_path, seed=7), owns_folder=True)
    assert run.folder == tmp_path / "a"
    assert "seed: 7" in (run.folder / CONFIG_FILE).read_text()


def test_an_existing_run_is_refused_with_the_ways_out(tmp_path):
    open_run(config(tmp_path), owns_folder=True)
    with pytest.raises(RunExistsError, match="'a' exists.*resume=true.*replace=true"):
        open_run(config(tmp_path), owns_folder=True)


def test_an_empty_folder_is_no_run(tmp_path):
    (tmp_path / "a").mkdir()
    assert open_run(config(tmp_path), owns_folder=True).folder.is_dir()


def test_resume_keeps_files_and_replace_deletes_them(tmp_path):
    file = open_run(config(tmp_path), owns_folder=True).folder / "weights"
    file.write_text("x")
    open_run(config(tmp_path, resume=True), owns_folder=True)
    assert file.exists()
    open_run(config(tmp_path, replace=True), owns_folder=True)
    assert not file.exists()


def test_replace_never_deletes_a_folder_that_is_not_a_run(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="not a run's folder"):
        open_run(config(tmp_path, replace=True), owns_folder=True)
    assert (tmp_path / "a" / "thesis.tex").exists()


class Inner(Config):
    lr: float = 0.1
    workers: int | tuple[int, int] = 0


class Trained(RunConfig):
    FREE_ON_RESUME: ClassVar[frozenset[str] | None] = frozenset({"training.workers"})
    training: Inner = Inner()
    columns: dict[str, str] = {}


def trained(tmp_path, **values):
    return Trained(kind="k", name="a", runs_dir=str(tmp_path), **values)


def test_resume_with_checkpoints_refuses_other_settings_and_leaves_the_saved_config(tmp_path):
    folder = open_run(trained(tmp_path), owns_folder=True).folder
    saved = (folder / CONFIG_FILE).read_text()
    (folder / "checkpoints" / "step-00000004").mkdir(parents=True)
    for change, line in (
        (
            {"training": {"lr": 0.2}},
            r"field 'training.lr' is 0.2, but the run's checkpoints were made with 0.1 \(.*config.yaml\); set it back",
        ),
        ({"seed": 3}, "field 'seed' is 3, .* with 0 "),
        ({"columns": {"a": "b"}}, "field 'columns' is .*'a': 'b'.* with {} "),
    ):
        with pytest.raises(ConfigError, match=line):
            open_run(trained(tmp_path, resume=True, **change), owns_folder=True)
        assert (folder / CONFIG_FILE).read_text() == saved
    open_run(trained(tmp_path, resume=True, training={"workers": (1, 2)}), owns_folder=True)
    assert "- 1" in (folder / CONFIG_FILE).read_text()
    # A field that the saved config does not know is newer than the run.
    (folder / CONFIG_FILE).write_text("kind: k\nseed: 0\n")
    open_run(trained(tmp_path, resume=True, training={"lr": 0.2}), owns_folder=True)


def test_settings_bind_from_the_first_checkpoint_on(tmp_path):
    """A run that failed before it had learned anything is mended and resumed."""
    open_run(trained(tmp_path), owns_folder=True)
    folder = open_run(trained(tmp_path, resume=True, seed=3), owns_folder=True).folder
    assert "seed: 3" in (folder / CONFIG_FILE).read_text()


def test_resume_and_replace_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match="both true"):
        open_run(config(tmp_path, resume=True, replace=True), owns_folder=True)


def test_a_reading_verb_opens_an_existing_run_and_leaves_its_config(tmp_path):
    run = open_run(config(tmp_path, seed=1), owns_folder=True)
    open_run(config(tmp_path, seed=2), owns_folder=False)
    assert "seed: 1" in (run.folder / CONFIG_FILE).read_text()


def test_report_adds_stages_and_writes_nan_as_null(tmp_path):
    run = open_run(config(tmp_path), owns_folder=True)
    for _ in range(2):
        with run.stage("read"):
            pass
    run.seconds["read"] += 2
    run.log({"b": 2, "a": math.nan})
    run.artifacts.append("x")
    report = run.finish("train")
    on_disk = json.loads((run.folder / REPORT_FILE).read_text())
    assert on_disk == report == read_report(run.folder)
    assert report["verb"] == "train"
    assert list(report["metrics"].items()) == [("a", None), ("b", 2.0)]
    assert 2 <= report["seconds"]["read"] < 2.5
    assert report["artifacts"] == ["x"]
    assert report["versions"] == versions()
    assert set(report) == {"verb", "name", "seconds", "metrics", "artifacts", "tables", "versions"}


def test_each_verb_keeps_its_own_report(tmp_path):
    run = open_run(config(tmp_path), owns_folder=True)
    run.finish("train")
    run.finish("evaluate")
    assert read_report(run.folder)["verb"] == "evaluate"
    assert json.loads((run.folder / "reports" / "train.json").read_text())["verb"] == "train"


def test_a_failed_stage_is_timed(tmp_path):
    run = Run("a", tmp_path)
    with pytest.raises(RuntimeError), run.stage("x"):
        raise RuntimeError
    assert "x" in run.seconds


def test_no_report_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="no report at"):
        read_report(tmp_path)


def test_plots_and_tables_are_checked_when_added(tmp_path):
    run = Run("a", tmp_path)
    (tmp_path / "loss.png").write_bytes(b"x")
    run.add_plot("Loss", "loss.png")
    assert run.plots[0].path == tmp_path / "loss.png"
    for wrong in ("absent.png", "loss.txt"):
        with pytest.raises(ValueError, match="not a PNG or SVG"):
            run.add_plot("Loss", wrong)
    run.add_table("T", ["a", "b"], [[1, 2]], note="n")
    with pytest.raises(ValueError, match="2 columns and a row of 3"):
        run.add_table("T", ["a", "b"], [[1, 2, 3]])
    assert [t.rows for t in run.report_tables] == [((1, 2),)]
