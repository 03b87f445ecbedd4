"""Where a job is sent: the address of the cluster's job server, and whether this process shows a token there."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from adray.errors import ConfigError

SERVER_VARIABLE = "RAY_API_SERVER_ADDRESS"
_CLUSTER_VARIABLE = "RAY_ADDRESS"
_EXAMPLE = "http://HEAD:8265"


def job_server(address: str | None, environment: Mapping[str, str]) -> str:
    """The job server's address, checked.

    Args:
        address: As given to `--address`; None takes `RAY_API_SERVER_ADDRESS`, then `RAY_ADDRESS`.
        environment: Where those are looked up.

    Raises:
        ConfigError: If there is none, or it is not `http(s)://HOST[:PORT]`.
    """
    found = next(((n, v) for n, v in (("--address", address), *((n, environment.get(n)) for n in _VARIABLES)) if v), None)
    if found is None:
        raise ConfigError("no cluster is named", f"pass --address {_EXAMPLE}, or export {SERVER_VARIABLE}={_EXAMPLE}")
    source, value = found
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{source} is not an address: {error}", f"write {_EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        # The value is not repeated: it holds a password.
        raise ConfigError(f"{source} holds a user or password", "leave it out; the token is read from RAY_AUTH_TOKEN")
    if parts.scheme not in ("http", "https") or not host:
        cure = f"name the head's dashboard, by default port 8265: --address {_EXAMPLE}"
        raise ConfigError(f"{source} is {value!r}, not a job server's http:// or https:// address", cure)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"{source} is {value!r}, with more than a host and a port", f"write {_EXAMPLE}")
    netloc = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{netloc}" + (f":{port}" if port else "")


_VARIABLES = (SERVER_VARIABLE, _CLUSTER_VARIABLE)


def shows_token_in_clear(server: str) -> bool:
    """Whether the token would cross a network unencrypted on its way to this address."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return parts.scheme == "http" and not local


def use_token() -> bool:
    """Have Ray show this user's token if there is one; to be called before Ray is imported. True if it will.

    Ray shows it only when told to, and a server that wants none ignores it. `RAY_AUTH_MODE` that is set is left as it is.
    """
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if os.environ.get("RAY_AUTH_TOKEN") or file.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
