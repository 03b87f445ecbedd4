"""Nobody but this machine reaches the endpoints without a key, and the key stays where it is."""

import pytest

from adray.errors import ConfigError
from adray.serving import exposure
from adray.serving.config import HttpConfig
from adray.serving.edge import hash_key

KEY = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    monkeypatch.setenv("GOOD_KEY", KEY)
    monkeypatch.setenv("SHORT_KEY", "abc")
    monkeypatch.delenv("NO_KEY", raising=False)


def test_loopback_needs_no_key():
    assert exposure.key_hash(HttpConfig()) is None


def test_a_key_is_hashed_where_it_is_read():
    http = HttpConfig(host="0.0.0.0", api_key_env="GOOD_KEY")
    assert exposure.key_hash(http) == hash_key(KEY)
    assert KEY not in exposure.describe(http)
    assert "GOOD_KEY" in exposure.describe(http)


@pytest.mark.parametrize(
    ("http", "message"),
    [
        ({"host": "0.0.0.0"}, "http.host '0.0.0.0' is reachable from other machines and no API key is asked for; set http.api_key_env"),
        ({"api_key_env": "NO_KEY"}, "environment variable NO_KEY (http.api_key_env) is not set; export it"),
        ({"api_key_env": "SHORT_KEY"}, "has 3 characters, 16 are needed"),
    ],
)
def test_refusals_say_the_cure(http, message):
    with pytest.raises(ConfigError) as error:
        exposure.key_hash(HttpConfig(**http))
    assert message in str(error.value)
    assert "abc" not in str(error.value)


def test_haproxy_counts_as_open_whatever_the_host(monkeypatch):
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with pytest.raises(ConfigError, match="listen on all interfaces"):
        exposure.key_hash(HttpConfig())
    assert exposure.key_hash(HttpConfig(api_key_env="GOOD_KEY")) == hash_key(KEY)
