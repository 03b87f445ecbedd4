"""What `submit` refuses before it looks for a cluster."""

import pytest

from adray import kinds
from adray.errors import ConfigError
from adray.jobs.config import SubmitConfig
from adray.jobs.submit import submit
from adray.kinds import KINDS, Kind


@pytest.fixture
def config(monkeypatch, tmp_path):
    """An echo config's file; the environment names a cluster that is never asked."""
    monkeypatch.setitem(KINDS, "echo", Kind("tests.helpers.echo_kind", "train"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    path = tmp_path / "a.yaml"
    path.write_text("{kind: echo, name: a, runs_dir: /mnt/runs, submit: {cpus: 2}}")
    return path


def test_the_section_is_no_part_of_the_run(config):
    job = kinds.load_job(config, ["submit.pass_env=[A]"])
    assert job.submit == SubmitConfig(cpus=2, pass_env=["A"])
    assert "submit" not in job.config.model_dump()
    (config.parent / "plain.yaml").write_text("{kind: echo, name: a}")
    assert kinds.load_job(config.parent / "plain.yaml").submit == SubmitConfig()


@pytest.mark.parametrize(
    ("verb", "overrides", "address", "text"),
    [
        ("train", [], "ray://head:10001", "--address is 'ray://head:10001'"),
        ("trian", [], "http://127.0.0.1:1", "kind 'echo' cannot trian; verbs of this kind: simulate, train"),
        ("train", ["submit.cpu=1"], "http://127.0.0.1:1", "unknown field 'submit.cpu'; did you mean 'cpus'?"),
        ("train", ["submit.max_package_mib=200"], "http://127.0.0.1:1", "field 'submit.max_package_mib' is 200"),
        (
            "train",
            ["runs_dir=runs"],
            "http://127.0.0.1:1",
            "field 'runs_dir' is 'runs', which on the cluster is deleted with the job's files",
        ),
        (
            "train",
            ["submit.pass_env=[WANDB_API_KEY]"],
            "http://127.0.0.1:1",
            "field 'submit.pass_env' names WANDB_API_KEY, which is not set",
        ),
    ],
)
def test_what_needs_no_cluster_is_checked_first(config, monkeypatch, verb, overrides, address, text):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError) as error:
        submit(verb, config, overrides, address)
    assert text in str(error.value)
