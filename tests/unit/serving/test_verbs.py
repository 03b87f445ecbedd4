"""The verb's printed line is ready to paste, and its wait ends when it should."""

import json
import os
import shlex
import signal
import subprocess
import threading
import time

from adray.serving.config import HttpConfig
from adray.serving.verbs import _interruption, _wait, curl_line


def test_the_curl_line_survives_the_shell():
    words = shlex.split(curl_line("http://127.0.0.1:8000", HttpConfig(), 'it\'s $HOME "é"'))
    assert words[:3] == ["curl", "-sS", "http://127.0.0.1:8000/v1/creatives:rank"]
    body = json.loads(words[words.index("-d") + 1])
    assert body["skus"] == [{"sku_id": 'it\'s $HOME "é"'}]


def test_the_curl_line_reads_the_key_from_its_variable():
    line = curl_line("http://127.0.0.1:8000", HttpConfig(api_key_env="ADRAY_KEY"), "s")
    environment = {"ADRAY_KEY": "the-key", "PATH": os.environ["PATH"]}
    command = ["sh", "-c", line.replace("curl -sS", "printf '%s\\n'")]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "X-API-Key: the-key" in shown.stdout.splitlines()


def test_the_wait_ends_after_its_duration():
    start = time.monotonic()
    _wait(threading.Event(), 0.05)
    assert 0.05 <= time.monotonic() - start < 5


def test_a_signal_ends_the_wait_and_the_second_acts_as_before():
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with _interruption() as interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            _wait(interrupted, None)
            assert seen == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM]
        with _interruption() as interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupted.is_set()
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
