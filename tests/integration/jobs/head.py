"""A real head node of its own: own ports, own folder, own token, on the loopback interface; ended by what was started, no more."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.helpers.torchrun import ROOT

BIN = Path(sys.executable).parent
SECRET_ON_THE_NODES = "a-key-that-only-the-nodes-have"
SERVE_KEY = "the-key-of-the-endpoints"


@dataclass
class Head:
    """A running head node.

    Attributes:
        url: Its job server.
        token: What it asks for.
        folder: Where it writes.
        metrics_url: Where Prometheus would ask.
        process: What was started.
    """

    url: str
    token: str
    folder: Path
    metrics_url: str
    process: subprocess.Popen | None = None

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment of a user who has the token."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "WANDB_"))}
        return {**kept, "RAY_AUTH_TOKEN": self.token, "HOME": str(self.folder), "PATH": f"{BIN}:{os.environ['PATH']}", **changes}

    def get(self, path: str) -> httpx.Response:
        """Ask its job server."""
        return httpx.get(self.url + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)

    def job(self, job_id: str) -> dict:
        """What it says of a job."""
        return self.get(f"/api/jobs/{job_id}").raise_for_status().json()

    def until(self, job_id: str, *statuses: str) -> dict:
        """Wait until a job has one of the statuses."""
        for _ in range(300):
            job = self.job(job_id)
            if job["status"] in statuses:
                return job
            assert job["status"] in ("PENDING", "RUNNING"), job
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.2)
        raise AssertionError(f"job {job_id} is {job['status']} after a minute and more")

    def process_of(self, job: str) -> psutil.Process:
        """The process that executes a submitted config, once it is there."""
        for _ in range(300):
            for process in psutil.process_iter(["cmdline"]):
                command = process.info["cmdline"] or []
                # Not the shell, which has the whole entrypoint in one word.
                if f"submitted/{job}.yaml" in command and process.environ().get("ADRAY_TEST_HEAD") == str(self.folder):
                    return process
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.2)
        raise AssertionError(f"no process executes {job}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def started_head() -> Iterator[Head]:
    # Not below pytest's folder: the paths of Ray's sockets would be too long.
    folder = Path(tempfile.mkdtemp(prefix="adr", dir="/tmp"))
    port, dashboard, agent, metrics, client = free_ports(5)
    head = Head(f"http://127.0.0.1:{dashboard}", uuid.uuid4().hex, folder, f"http://127.0.0.1:{metrics}/metrics")
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={folder}"]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--port={port}", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}"]
    command += ["--num-cpus=2", f"--object-store-memory={100 * 2**20}"]
    environment = head.environment(
        RAY_AUTH_MODE="token",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        WANDB_API_KEY=SECRET_ON_THE_NODES,
        ADRAY_API_KEY=SERVE_KEY,
        OMP_NUM_THREADS="1",
        ADRAY_TEST_HEAD=str(folder),
    )
    log = folder / "head.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    head.process = process
    try:
        _wait_until_up(head, process, log)
        yield head
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(head: Head, process: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        with suppress(httpx.TransportError):
            if head.get("/api/version").status_code == 200:
                return
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
            break
    raise AssertionError(f"the head did not start: {log.read_text()[-3000:]}")


def _end(process: subprocess.Popen) -> None:
    """End the head and every process that came from it, and none else."""
    found = [psutil.Process(process.pid)] if process.poll() is None else []
    for one in found:
        with suppress(psutil.NoSuchProcess):
            # Held still, so that it starts no other while its children are looked for.
            one.suspend()
            found += one.children()
    for one in found:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait(timeout=30)
    psutil.wait_procs(found, timeout=10)


def launch(*args: str, env: dict[str, str], **options) -> subprocess.CompletedProcess:
    """Run the command line in the project's folder, as a user does."""
    command = [sys.executable, "launch.py", *args]
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False, stdin=subprocess.DEVNULL, **options
    )
