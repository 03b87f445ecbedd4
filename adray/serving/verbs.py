"""The `serve` kind: what the command line calls."""

from __future__ import annotations

import json
import shlex
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from adray.checks import Check
from adray.run import Run
from adray.serving.app import ServeHandle, start
from adray.serving.checks import serving_checks
from adray.serving.config import HttpConfig, ServeRunConfig
from adray.serving.edge import CREATIVES_RANK, KEY_HEADER

CONFIG = ServeRunConfig


def serve(config: ServeRunConfig, run: Run) -> None:
    """Serve until interrupted (SIGINT, SIGTERM) or for `serve.duration_s`, then finish what is in flight and end.

    Args:
        config: What to serve.
        run: The run; its stages are `start`, `serve` and `drain`.
    """
    with run.stage("start"):
        handle = start(config)
    try:
        run.log({f"serve/start_{stage}_s": s for stage, s in handle.seconds.items()})
        # After Ray's start, which installs handlers of its own.
        with _interruption() as interrupted:
            print(_greeting(handle), flush=True)
            with run.stage("serve"):
                _wait(interrupted, config.serve.duration_s)
    finally:
        print("draining: requests in flight are finished", flush=True)
        with run.stage("drain"):
            handle.close()


def checks(config: ServeRunConfig, verb: str) -> Iterable[Check]:
    """What would stop the run. See `serving_checks`."""
    return serving_checks(config)


def curl_line(url: str, http: HttpConfig, sku_id: str) -> str:
    """A line for the shell that ranks one SKU's creatives.

    Args:
        url: Base URL of the service.
        http: The HTTP edge; with an API key the line reads it from its environment variable.
        sku_id: A SKU that the artifact knows.
    """
    parts = ["curl", "-sS", shlex.quote(url + CREATIVES_RANK.path), "-H", "'content-type: application/json'"]
    if http.api_key_env:
        parts += ["-H", f'"{KEY_HEADER}: ${http.api_key_env}"']
    body = json.dumps({"user": {"user_id": "u1"}, "skus": [{"sku_id": sku_id}]}, ensure_ascii=False)
    return " ".join([*parts, "-d", shlex.quote(body)])


def _greeting(handle: ServeHandle) -> str:
    return "\n".join(
        [
            f"serving on {handle.url} (OpenAPI page: {handle.url}/docs, health: {handle.url}/healthz); Ctrl-C drains and ends",
            curl_line(handle.url, handle.config.http, handle.example_sku()),
        ]
    )


def _wait(interrupted: threading.Event, duration_s: float | None) -> None:
    end = None if duration_s is None else time.monotonic() + duration_s
    while not interrupted.wait(timeout=1.0 if end is None else max(0.0, min(1.0, end - time.monotonic()))):
        if end is not None and time.monotonic() >= end:
            return


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second signal acts as it did before, so that a drain can be cut short."""
    event = threading.Event()
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        event.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    # Signals reach the main thread alone; elsewhere (a test, a notebook's thread) `duration_s` ends the run.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        restore()
