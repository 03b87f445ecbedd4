"""Who can reach the endpoints, and the key they must show."""

from __future__ import annotations

import os

from adray.errors import ConfigError
from adray.serving.config import HttpConfig
from adray.serving.edge import hash_key

MIN_KEY_LENGTH = 16

_HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"


def key_hash(http: HttpConfig) -> str | None:
    """Hash of the API key, and the refusal to be reachable from other machines without one.

    Only the hash leaves this process: Ray keeps what replicas are started with where its dashboard can show it.

    Returns:
        SHA-256 (hex) of the key; None when no key is configured and nobody else can reach the port.

    Raises:
        ConfigError: If the key's variable is not set or the key is short, or if the port is open to others without a key.
    """
    if http.api_key_env is None:
        reason = _open_because(http)
        if reason:
            raise ConfigError(f"{reason} and no API key is asked for", "set http.api_key_env, or http.host: 127.0.0.1 without HAProxy")
        return None
    key = os.environ.get(http.api_key_env, "")
    if not key:
        raise ConfigError(f"environment variable {http.api_key_env} (http.api_key_env) is not set", "export it, or set the field to null")
    if len(key) < MIN_KEY_LENGTH:
        raise ConfigError(
            f"the API key in {http.api_key_env} has {len(key)} characters, {MIN_KEY_LENGTH} are needed",
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    return hash_key(key)


def describe(http: HttpConfig) -> str:
    """One line on who can reach the port and what they must show."""
    who = _open_because(http) or f"only this machine reaches host {http.host}"
    return f"{who}; API key: {'hash of ' + http.api_key_env if http.api_key_env else 'none'}"


def _open_because(http: HttpConfig) -> str | None:
    if os.environ.get(_HAPROXY) == "1":
        # Ray 2.60 then ignores the configured host.
        return f"{_HAPROXY}=1 makes Serve listen on all interfaces"
    return None if http.is_local() else f"http.host {http.host!r} is reachable from other machines"
