"""What the tests of a running application share: its config, waiting for a condition, holding a request in flight."""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from urllib.parse import urlsplit

WAIT_S = 30.0

APP = {
    "name": "serving-tests",
    "http": {"port": 0, "request_timeout_s": 4},
    "deployments": {
        "creatives": {"min_replicas": 2, "max_replicas": 2, "num_cpus": 0.2, "health_check_period_s": 1},
        "user_sku": {"max_replicas": 1, "num_cpus": 0.2, "max_ongoing_requests": 2, "max_queued_requests": 2, "retry_after_s": 3},
        "ads": {"max_replicas": 2, "num_cpus": 0.1, "target_ongoing_requests": 1, "upscale_delay_s": 0.5, "look_back_period_s": 2},
    },
}


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> object:
    """Return the condition's first truthy value."""
    end = time.monotonic() + timeout_s
    tick = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {timeout_s} s in vain: {what}"
        tick.wait(0.05)
    return value


@dataclass(eq=False)
class HeldRequest:
    """A request that is really in flight: its headers and half of its body are sent, so a replica waits for the rest."""

    url: str
    path: str
    body: dict
    headers: dict[str, str] = field(default_factory=dict)
    connection: HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        data = json.dumps(self.body).encode()
        self._rest = data[len(data) // 2 :]
        self.connection = HTTPConnection(parts.hostname or "", parts.port, timeout=WAIT_S)
        self.connection.putrequest("POST", self.path)
        self.connection.putheader("content-type", "application/json")
        self.connection.putheader("content-length", str(len(data)))
        for name, value in self.headers.items():
            self.connection.putheader(name, value)
        self.connection.endheaders(data[: len(data) // 2])

    def send_rest(self) -> None:
        """Complete the request."""
        self.connection.send(self._rest)

    def is_answered(self, within_s: float = 0.0) -> bool:
        """Whether an answer, or the end of the connection, has arrived or arrives within the given time."""
        return bool(select.select([self.connection.sock], [], [], within_s)[0])

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer, to whatever was sent."""
        response = self.connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def close(self) -> None:
        """Hang up."""
        self.connection.close()
