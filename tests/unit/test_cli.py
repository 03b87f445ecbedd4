"""The command line: frozen flags, instant help, one line per error, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from adray import cli, kinds
from adray.errors import ConfigError, DataError, ResourceError
from adray.kinds import KINDS, Kind, user_error

ROOT = Path(__file__).parents[2]
VERBS = ["demo", "simulate", "train", "evaluate", "export", "generate", "extract", "embed", "index", "inspect", "serve", "study"]
VERBS += ["submit", "check"]


@pytest.fixture
def echo(monkeypatch, tmp_path):
    """Register the echo kind; return a function that writes its config and a function that runs the command line."""
    monkeypatch.setitem(KINDS, "echo", Kind("tests.helpers.echo_kind", "train"))
    monkeypatch.chdir(tmp_path)

    def run(*args: str, code: int = 0, **fields: object) -> None:
        values = {"kind": "echo", "name": "a", **fields}
        Path("a.yaml").write_text("\n".join(f"{k}: {json.dumps(v)}" for k, v in values.items()))
        with pytest.raises(SystemExit) as end:
            cli.app(list(args))
        assert (end.value.code or 0) == code

    return run


def test_flags_are_frozen():
    """The command line grows verbs, not flags: a new knob is a config field."""
    group = typer.main.get_command(cli.app)
    assert sorted(group.commands) == sorted(VERBS)
    for name, command in group.commands.items():
        flags = {flag for p in command.params for flag in p.opts if p.param_type_name == "option"}
        arguments = [(p.name, p.required) for p in command.params if p.param_type_name == "argument"]
        # Which cluster a job goes to is no part of any run, so it is no field of a config.
        assert flags - {"--help", "-h"} == {"--set", "--json", *(["--address"] if name == "submit" else [])}, name
        assert arguments == [*([("verb", True)] if name == "submit" else []), ("config", name != "demo")], name


def test_every_verb_teaches_by_example():
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        help_text = command.get_help(click.Context(command)) if hasattr(command, "get_help") else command.help
        assert f"launch.py {name}" in (command.help or "") + str(help_text)


def test_the_examples_parse():
    """Every `launch.py ...` of the help texts is accepted by the parser."""
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        lines = [part for part in (command.help or "").split("`") if part.startswith("launch.py")]
        assert len(lines) >= 2
        for line in lines:
            words = [word.strip("'") for word in line.split()[1:]]
            assert words[0] == name
            context = command.make_context(name, words[1:])
            assert str(context.params["config"]).startswith("configs/")


def cpu_seconds_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_import_is_instant_and_light():
    code = "import adray.cli, sys; print([m for m in ('torch', 'ray', 'deepspeed', 'pyarrow', 'numpy') if m in sys.modules])"
    best = float("inf")
    for _ in range(3):
        # CPU time, not wall time: a busy machine must not fail the test.
        start = cpu_seconds_of_children()
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        best = min(best, cpu_seconds_of_children() - start)
        assert out.strip() == "[]"
    assert best < 0.5


def test_launch_script_shows_the_verbs_and_says_what_is_wrong():
    env = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "launch.py", "--help"], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)
    done = subprocess.run([sys.executable, "launch.py", "train", "absent/a.yaml"], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == ConfigError.exit_code
    assert done.stderr == "error: config file absent/a.yaml does not exist; check the path\n"
    assert done.stdout == ""


def test_a_run_ends_in_a_summary_and_both_reports(echo, capfd):
    echo("train", "a.yaml", "--set", "inner.effect=0.5", "--set", "seed=2")
    out = capfd.readouterr().out
    assert "echo/value" in out and "20.5" in out
    assert "report.html" in out
    report = json.loads(Path("runs/a/report.json").read_text())
    assert report["metrics"]["echo/value"] == 20.5
    assert "20.5" in Path("runs/a/report.html").read_text()


def test_resolved_config_is_printed(echo, capfd):
    echo("train", "a.yaml", "--set", "inner.effect=0.25")
    assert "effect: 0.25" in capfd.readouterr().err


def test_json_prints_the_report_alone(echo, capfd):
    echo("train", "a.yaml", "--json")
    captured = capfd.readouterr()
    assert json.loads(captured.out) == json.loads(Path("runs/a/report.json").read_text())
    assert "noise on stdout" in captured.err


def test_user_error_is_one_line_with_the_class_code(echo, capfd):
    echo("train", "a.yaml", code=6, fail="user")
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    way_on = "run 'a' is kept: --set resume=true goes on with it, --set replace=true starts it afresh"
    assert lines == [f"error: loss is nan at step 3; lower the learning rate; {way_on}"]
    assert "TrainingError" in Path("runs/a/error.log").read_text()


def test_only_the_command_that_leaves_a_run_behind_says_how_to_go_on(echo, capfd):
    echo("train", "a.yaml", code=3, fail="check")
    echo("train", "a.yaml", code=6, fail="user")
    capfd.readouterr()
    echo("train", "a.yaml", "--set", "replace=true", code=6, fail="user")
    echo("train", "a.yaml", "--set", "resume=true", code=6, fail="user")
    assert "is kept" not in capfd.readouterr().err


def test_unexpected_error_keeps_its_traceback_in_the_run(echo, capfd):
    echo("train", "a.yaml", code=70, fail="bug")
    err = capfd.readouterr().err
    log = Path("runs/a/error.log").absolute()
    assert f"error: unexpected ZeroDivisionError: a bug of two lines (traceback: {log})" in err
    assert "Traceback" not in err
    assert "ZeroDivisionError" in log.read_text()


def test_a_failed_run_that_is_resumed_loses_its_error_log(echo):
    echo("train", "a.yaml", code=6, fail="user")
    echo("train", "a.yaml", "--set", "resume=true")
    assert not Path("runs/a/error.log").exists()
    assert Path("runs/a/starts").read_text() == "xx"


def test_a_failing_check_stops_before_the_run_starts(echo, capfd):
    echo("train", "a.yaml", code=3, fail="check")
    assert "error: table x is missing; make it" in capfd.readouterr().err
    assert not Path("runs/a").exists()


def test_existing_run_is_refused(echo, capfd):
    echo("train", "a.yaml")
    echo("train", "a.yaml", code=2)
    assert "--set resume=true" in capfd.readouterr().err


def test_check_prints_all_and_starts_nothing(echo, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    echo("check", "a.yaml", code=3, fail="check")
    captured = capfd.readouterr()
    assert "storage writable" in captured.out
    assert "table x is missing; make it" in captured.out
    assert captured.err == "error: table x is missing; make it\n"
    echo("check", "a.yaml")
    assert "verb train" in capfd.readouterr().out
    assert not Path("runs").exists()


def test_check_as_json(echo, capfd):
    echo("check", "a.yaml", "--json", code=3, fail="check")
    report = json.loads(capfd.readouterr().out)
    assert report["metrics"]["check/failed"] == 1
    assert [c["error"] for c in report["checks"] if c["error"]] == ["table x is missing; make it"]


def test_check_of_a_wrong_config_is_a_failing_row(echo, capfd):
    echo("check", "a.yaml", "--set", "stepz=3", "--json", code=2)
    report = json.loads(capfd.readouterr().out)
    assert "did you mean 'steps'?" in report["checks"][0]["error"]


@pytest.mark.parametrize(
    ("verb", "fields", "text"),
    [
        ("serve", {}, "kind 'echo' cannot serve; verbs of this kind: simulate, train"),
        ("train", {"kind": "ecko"}, "kind 'ecko' is unknown; did you mean 'echo'?"),
        ("train", {"kind": "ranking"}, "kind 'ranking' is unknown; did you mean 'ranker'?"),
        ("train", {"kind": "zzz"}, "kind 'zzz' is unknown; known: world, ranker, "),
        ("train", {"kind": ["a"]}, "kind ['a'] is unknown"),
        ("train", {"steps": 0}, "field 'steps' is 0: Input should be greater than or equal to 1"),
        ("train", {"name": "a/b"}, "field 'name' is 'a/b'"),
    ],
)
def test_wrong_configs(echo, capfd, verb, fields, text):
    echo(verb, "a.yaml", code=2, **fields)
    assert text in capfd.readouterr().err


def test_missing_kind(echo, capfd, tmp_path):
    (tmp_path / "b.yaml").write_text("name: b")
    echo("train", "b.yaml", code=2)
    assert "b.yaml: field 'kind' is missing; add one of: world, ranker" in capfd.readouterr().err


def test_every_kind_names_a_verb_it_starts_with():
    for kind in KINDS.values():
        assert kind.main_verb in kinds.VERBS


class _CarriedError(ResourceError):
    """What Ray raises for a remote AdrayError: of that class too, with a traceback for text and the real one as `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("ray::task() Traceback ...")
        self.cause = cause


def test_the_users_error_is_found_inside_others():
    inner = DataError("a", "b")
    assert user_error(inner) is inner
    assert user_error(_CarriedError(inner)) is inner
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = inner
    assert user_error(wrapped) is inner
    assert user_error(RuntimeError("alone")) is None
    # An error raised while another was being handled is a new one: the old one is not its cause.
    try:
        try:
            raise inner
        except DataError:
            raise KeyError("bug")  # noqa: B904
    except KeyError as error:
        assert user_error(error) is None
