"""Which variables travel with a job: a short list, what the config names, what it asks for, and never a secret."""

import pytest

from adray.errors import ConfigError
from adray.jobs.environment import PASSED, is_secret, job_environment, named_in


def test_only_the_list_travels():
    here = {
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "2",
        "HOME": "/root",
        "WANDB_API_KEY": "k",
        "AWS_SECRET_ACCESS_KEY": "k",
        "PATH": "/bin",
    }
    assert job_environment({}, [], here) == {"OMP_NUM_THREADS": "2", "WANDB_MODE": "offline"}


def test_what_the_config_names_travels():
    values = {"data": {"path": "${SHOP}/x", "more": ["${OTHER}", 3, None]}, "name": "$NOT"}
    assert named_in(values) == {"SHOP", "OTHER"}
    assert job_environment(values, [], {"SHOP": "/mnt/shop", "OTHER": "/o", "THIRD": "/t"}) == {"OTHER": "/o", "SHOP": "/mnt/shop"}


def test_what_is_asked_for_travels():
    assert job_environment({}, ["NCCL_DEBUG"], {"NCCL_DEBUG": "INFO"}) == {"NCCL_DEBUG": "INFO"}


@pytest.mark.parametrize(
    ("pass_env", "values", "text"),
    [
        (["WANDB_API_KEY"], {}, "WANDB_API_KEY looks like a secret"),
        ([], {"path": "${HF_TOKEN}"}, "HF_TOKEN looks like a secret"),
        (["ABSENT"], {}, "'submit.pass_env' names ABSENT, which is not set"),
        (["A=b"], {}, "holds 'A=b', which is no variable's name"),
    ],
)
def test_the_rest_is_refused_without_its_value(pass_env, values, text):
    with pytest.raises(ConfigError) as error:
        job_environment(values, pass_env, {"WANDB_API_KEY": "v4lue", "HF_TOKEN": "v4lue"})
    assert text in str(error.value)
    assert "v4lue" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "DB_PASSWORD",
        "MYSQL_PASSWD",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "RAY_AUTH_TOKEN",
        "X_AUTH",
    ],
)
def test_secrets_are_known_by_their_names(name):
    assert is_secret(name)
    assert is_secret(name.lower())


@pytest.mark.parametrize("name", [*PASSED, "AUTHOR", "ADRAY_DATA", "NCCL_DEBUG"])
def test_settings_are_not_taken_for_secrets(name):
    assert not is_secret(name)
