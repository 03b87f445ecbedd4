"""Where a job is sent, and when the token is shown."""

import os

import pytest

from adray.errors import ConfigError
from adray.jobs.address import job_server, shows_token_in_clear, use_token


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        ("http://head:8265", {"RAY_ADDRESS": "http://other:1"}, "http://head:8265"),
        (None, {"RAY_API_SERVER_ADDRESS": "https://a", "RAY_ADDRESS": "http://b:1"}, "https://a"),
        (None, {"RAY_ADDRESS": "http://b:1/"}, "http://b:1"),
        ("http://[::1]:8265", {}, "http://[::1]:8265"),
    ],
)
def test_an_argument_beats_the_environment(address, environment, expected):
    assert job_server(address, environment) == expected


@pytest.mark.parametrize(
    ("address", "environment", "text"),
    [
        (None, {}, "no cluster is named; pass --address http://HEAD:8265"),
        ("ray://head:10001", {}, "--address is 'ray://head:10001', not a job server's http:// or https:// address"),
        (None, {"RAY_ADDRESS": "10.0.0.5:6379"}, "RAY_ADDRESS is '10.0.0.5:6379', not a job server's"),
        ("http://head:x", {}, "--address is not an address"),
        ("http://head:8265/api/jobs", {}, "with more than a host and a port"),
        ("http://", {}, "not a job server's"),
    ],
)
def test_anything_else_is_one_line(address, environment, text):
    with pytest.raises(ConfigError) as error:
        job_server(address, environment)
    assert text in str(error.value)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as error:
        job_server("http://me:hunter2@head:8265", {})
    assert "holds a user or password" in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("server", "clear"),
    [
        ("http://10.0.0.5:8265", True),
        ("http://head", True),
        ("https://head", False),
        ("http://127.0.0.1:8265", False),
        ("http://[::1]:1", False),
    ],
)
def test_a_token_over_plain_http_is_told(server, clear):
    assert shows_token_in_clear(server) is clear


def test_a_token_that_is_there_is_shown_unless_it_was_switched_off(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    # Set first, so that it is put back as it was.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert not use_token()
    del os.environ["RAY_AUTH_MODE"]
    assert not use_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    assert use_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
