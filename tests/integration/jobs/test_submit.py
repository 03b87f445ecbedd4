"""`launch.py submit` against a real head that asks for a token."""

import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from adray.errors import ConfigError, JobError, ResourceError, RunExistsError
from adray.jobs.client import JobServer
from tests.helpers.torchrun import ROOT
from tests.integration.jobs.conftest import SECRET_HERE, SMALL, submission, until_submitted
from tests.integration.jobs.head import SECRET_ON_THE_NODES, launch

pytestmark = pytest.mark.timeout(400)


def errors(done):
    """What a command says went wrong: one line, no traceback."""
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("error:")]


def test_a_killed_client_leaves_its_job_going(head, orphan, world):
    assert head.job(orphan)["driver_exit_code"] == 0
    assert (world / "products.parquet").is_file()


def test_a_run_goes_to_its_end_once(head, trained):
    words, here, done = trained
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["job"]["status"] == "SUCCEEDED"
    assert "train ranker-world" in done.stderr and "ranker/nsctr" in done.stderr, "the log was not followed"
    assert json.loads((head.folder / "runs/ranker-world/report.json").read_text())["verb"] == "train"

    job = head.job(report["job"]["id"])
    assert job["driver_info"], "the run did not join the cluster"
    assert job["runtime_env"]["env_vars"] == {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": "120",
        "WANDB_MODE": "offline",
    }
    assert job["metadata"]["adray_run"] == "ranker-world"
    assert SECRET_HERE not in json.dumps(job) + done.stderr + done.stdout
    files = [path for path in head.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 50
    assert [path for path in files if SECRET_HERE.encode() in path.read_bytes()] == []

    again = launch(*words, env=here)
    assert again.returncode == JobError.exit_code
    assert errors(again) == [
        f"error: job {report['job']['id']} has succeeded with this very config and code; its results are in its run's folder; "
        "choose another name, or --set replace=true to run it afresh"
    ]


def test_a_failed_run_gives_its_own_exit_code(head, world):
    done = launch(*submission(head, "simulate", "configs/world.yaml", *SMALL, "seed=1"), env=head.environment())
    assert done.returncode == RunExistsError.exit_code
    (line,) = errors(done)
    assert line.startswith("error: job adray-simulate-world-") and "failed with exit code 2; mend what its log says" in line
    assert f"error: run 'world' exists in {head.folder}/runs/world" in done.stdout


class Terminal:
    """A client that a person sits in front of."""

    def __init__(self, words, env):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "launch.py", *words], env=env, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.text = ""

    def until(self, text):
        """Read on until this is printed, from where it was last read to."""
        while text not in self.text:
            ready, _, _ = select.select([self.master], [], [], 60)
            assert ready, f"nothing came for a minute while waiting for {text!r}, after: {self.text[-2000:]}"
            try:
                piece = os.read(self.master, 4096).decode(errors="replace")
            except OSError as error:
                assert error.errno == errno.EIO
                piece = ""
            assert piece, f"it ended without {text!r}: {self.text[-2000:]}"
            self.text += piece
        before, _, self.text = self.text.partition(text)
        return before

    def interrupt(self, answer):
        os.kill(self.process.pid, signal.SIGINT)
        self.until("or [f]ollow it again? ")
        os.write(self.master, answer.encode() + b"\n")


def test_an_interrupt_asks_whether_to_stop_and_a_stopped_run_may_come_again(head):
    words = submission(head, "simulate", "configs/world.yaml", "name=held", *SMALL)
    terminal = Terminal(words, head.environment())
    terminal.until("job ")
    job_id = terminal.until(":")
    run = head.process_of("held")
    run.suspend()
    try:
        head.until(job_id, "RUNNING")
        assert run.environ()["WANDB_API_KEY"] == SECRET_ON_THE_NODES, "a job does not find the nodes' secrets"
        twice = launch(*words, "--set", "resume=true", env=head.environment())
        assert twice.returncode == JobError.exit_code
        (line,) = errors(twice)
        assert (
            f"job {job_id} is running: run 'held' is under way; follow it with `RAY_AUTH_MODE=token ray job logs {job_id} --follow" in line
        )
        terminal.interrupt("f")
        terminal.until("following job")
        terminal.interrupt("s")
        terminal.until("was told to stop")
    finally:
        run.resume()
    terminal.until(f"job {job_id} was stopped; submit again")
    assert terminal.process.wait(timeout=30) == JobError.exit_code
    assert head.job(job_id)["status"] == "STOPPED"
    assert not psutil.pid_exists(run.pid)
    _detached(head, [*words, "--set", "replace=true"], f"{job_id}-2")


def _detached(head, words, job_id):
    """Without a terminal an interrupt lets the job go on and says how to follow it."""
    command = [sys.executable, "launch.py", *words]
    with subprocess.Popen(
        command, env=head.environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as client:
        assert until_submitted(client) == job_id
        head.process_of("held")
        client.send_signal(signal.SIGINT)
        said = client.stderr.read()
    assert client.returncode == 130
    assert f"job {job_id} goes on; follow it with `RAY_AUTH_MODE=token ray job logs {job_id} --follow --address {head.url}`" in said
    assert head.until(job_id, "SUCCEEDED")["driver_exit_code"] == 0


@pytest.mark.parametrize(
    ("token", "text"),
    [("wrong", "refused the token; export the cluster's own as RAY_AUTH_TOKEN"), ("", "asks for a token, and none was shown")],
)
def test_a_wrong_token_is_one_line(head, token, text):
    done = launch(*submission(head, "simulate", "configs/world.yaml"), env=head.environment(RAY_AUTH_TOKEN=token))
    assert done.returncode == JobError.exit_code
    (line,) = errors(done)
    assert text in line
    assert head.token not in done.stderr


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://127.0.0.1:1", "no job server answers at http://127.0.0.1:1"),
        ("https{}", "speaks no TLS"),
        ("http://127.0.0.1:{}", "is not Ray's job server"),
    ],
)
def test_a_wrong_address_is_one_line(head, address, text, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    with _stranger(tmp_path) as port, pytest.raises(JobError) as error:
        JobServer(address.format(head.url.removeprefix("http") if address.startswith("https") else port))
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def _stranger(folder: Path):
    """A web server that is no job server."""
    import functools
    import http.server
    import threading
    from contextlib import contextmanager

    @contextmanager
    def served():
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_address[1]
            server.shutdown()

    return served()


def test_a_package_that_is_too_large_is_refused_before_it_is_sent(head):
    done = launch(*submission(head, "simulate", "configs/world.yaml", "submit.max_package_mib=0.1"), env=head.environment())
    assert done.returncode == ResourceError.exit_code
    (line,) = errors(done)
    assert "in a package, 102.4 KiB are allowed; largest: " in line


def test_a_folder_that_goes_with_the_job_is_refused(head):
    done = launch("submit", "simulate", "configs/world.yaml", "--address", head.url, env=head.environment())
    assert done.returncode == ConfigError.exit_code
    assert errors(done) == [
        "error: field 'runs_dir' is 'runs', which on the cluster is deleted with the job's files; "
        "name storage that every node mounts: --set runs_dir=/mnt/runs"
    ]
