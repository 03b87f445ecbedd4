"""`serve` from the shell: it prints what to paste, and an interruption lets the request in flight finish."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from adray.serving.edge import CREATIVES_RANK, KEY_HEADER
from tests.integration.serving.live import HeldRequest, wait_for

ROOT = Path(__file__).parents[3]
START_S = 90.0
KEY = "correct-horse-battery-staple"


@contextmanager
def serving(ranker, tmp_path, **values):
    """Run the verb in a process group of its own, as a shell does; yields the process and the lines it prints."""
    sets = {"runs_dir": tmp_path, "light": ranker.light, "heavy": ranker.heavy, "http.port": 0, **values}
    command = [sys.executable, "launch.py", "serve", "configs/serve.yaml", "--json"]
    command += [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    environment = {**os.environ, "ADRAY_TEST_KEY": KEY}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(timeout=10)


def printed(process, lines, text: str) -> str:
    """The first printed line that holds the text."""

    def found() -> str | None:
        assert process.poll() is None, "".join(lines)
        return next((line for line in list(lines) if text in line), None)

    return str(wait_for(found, f"a line with {text!r}", START_S))


@pytest.mark.parametrize("interruption", ["SIGTERM", "Ctrl-C"])
def test_an_interruption_lets_the_request_in_flight_finish(ranker, tmp_path, interruption):
    with serving(ranker, tmp_path, **{"http.api_key_env": "ADRAY_TEST_KEY"}) as (process, lines):
        curl = printed(process, lines, "curl -sS")
        url = re.search(r"http://127\.0\.0\.1:\d+", curl).group()
        if interruption == "SIGTERM":
            check_key_and_curl_line(url, curl, ranker)
        held = HeldRequest(url, CREATIVES_RANK.path, {"skus": [{"sku_id": "sku0"}]}, {KEY_HEADER: KEY})
        # A later request on the same way has been answered: the held one has reached its replica too.
        assert httpx.post(url + CREATIVES_RANK.path, json={"skus": [{"sku_id": "sku1"}]}, headers={KEY_HEADER: KEY}).status_code == 200
        if interruption == "SIGTERM":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGINT)
        printed(process, lines, "draining")
        wait_for(lambda: not accepts(url), "new requests to be turned away")
        held.send_rest()
        status, _, body = held.answer()
        assert status == 200
        assert len(json.loads(body)["skus"][0]["creatives"]) == len(ranker.creatives["sku0"])
        report = json.loads(process.stdout.read())
        assert process.wait(timeout=60) == 0
    assert {"start", "serve", "drain"} <= set(report["seconds"])
    assert KEY not in "".join(lines)
    assert not any(KEY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def accepts(url: str) -> bool:
    try:
        return httpx.post(url + CREATIVES_RANK.path, json={"skus": [{"sku_id": "sku1"}]}, headers={KEY_HEADER: KEY}).status_code == 200
    except httpx.TransportError:
        return False


def check_key_and_curl_line(url: str, curl: str, ranker) -> None:
    for headers in ({}, {KEY_HEADER: "wrong-horse-battery-staple"}):
        assert httpx.post(url + CREATIVES_RANK.path, json={"skus": [{"sku_id": "sku0"}]}, headers=headers).status_code == 401
    # The shell fills the key in; without curl on this machine the same request goes out by httpx.
    words = shlex.split(curl.replace("$ADRAY_TEST_KEY", KEY))
    header = dict(word.split(": ", 1) for word in words if ": " in word and not word.startswith("{"))
    answer = httpx.post(words[2], content=words[words.index("-d") + 1], headers=header)
    assert answer.status_code == 200, answer.text
    assert answer.json()["unknown_skus"] == []
    assert answer.json()["skus"][0]["sku_id"] in ranker.creatives
