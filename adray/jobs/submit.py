"""`launch.py submit`: hand a run to a cluster, follow it, and end as it ends."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import adray
from adray import kinds
from adray.config import apply_overrides, read_yaml
from adray.errors import INTERRUPTED, ConfigError, JobError
from adray.jobs.address import job_server, shows_token_in_clear, use_token
from adray.jobs.environment import job_environment
from adray.jobs.identity import Identity, identify, next_id
from adray.jobs.package import Package, code_hash, human, project_files, write_package

ROOT = Path(adray.__file__).resolve().parents[1]
"""The project's folder: the code that checks the config here is the code that runs it there."""


@dataclass
class Outcome:
    """How a submission ended.

    Attributes:
        job_id: The job.
        run: The run's name.
        verb: Its verb.
        address: The job server.
        status: The job's last known status.
        exit_code: 0 on success or when it is not followed; else the job's own, where it has one.
        error: What to say of it when it did not succeed.
        seconds: Wall time of each stage.
        metrics: The package's files and bytes.
    """

    job_id: str
    run: str
    verb: str
    address: str
    status: str = "PENDING"
    exit_code: int = 0
    error: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """The report that `--json` prints; the run's own is in its folder, on the cluster."""
        from adray.run import versions

        job = {"id": self.job_id, "verb": self.verb, "status": self.status, "exit_code": self.exit_code, "address": self.address}
        report = {"verb": "submit", "name": self.run, "seconds": {k: round(s, 3) for k, s in self.seconds.items()}}
        return {**report, "metrics": self.metrics, "artifacts": [], "tables": [], "versions": versions(), "job": job}


def submit(verb: str, path: Path, overrides: Sequence[str], address: str | None) -> Outcome:
    """Submit one run and, unless `submit.follow` is false, follow it to its end.

    Args:
        verb: Any verb that executes a run.
        path: The run's config file.
        overrides: `a.b=c` texts, as given to `--set`.
        address: The job server; None takes it from the environment.

    Returns:
        How it ended.

    Raises:
        ConfigError: If the config, the address or a variable is wrong.
        ResourceError: If the package is too large.
        JobError: If the run is under way or done, or the cluster cannot be reached or refuses.
    """
    where = job_server(address, os.environ)
    token = use_token()
    values = apply_overrides(read_yaml(path), overrides)
    job = kinds.make_job(values, str(path))
    job.require(verb)
    _require_lasting_folder(values)
    environment = job_environment(values, job.submit.pass_env, os.environ)
    environment["RAY_JOB_STOP_WAIT_TIME_S"] = str(job.submit.stop_wait_s)
    files = project_files(ROOT)
    if "launch.py" not in files:
        raise ConfigError(f"{ROOT} is not adray's project folder (no launch.py)", "submit from a checkout of the project")
    identity = identify(verb, job.config, code_hash(ROOT, files), ROOT)

    # Ray is imported only now: before, everything that needs no cluster is checked.
    from adray.jobs.client import JobServer

    server = JobServer(where)
    if token and shows_token_in_clear(where):
        _say(f"warning: the token travels unencrypted to {where}; use https, or `ssh -L 8265:127.0.0.1:8265 HEAD`")
    job_id = next_id(identity, job.config, server.jobs(), _how_to_follow(where))
    outcome = Outcome(job_id, job.config.name, verb, where)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="adray-submit-") as folder:
        staged = f"submitted/{job.config.name}.yaml"
        text = yaml.safe_dump({k: v for k, v in values.items() if k != "submit"}, sort_keys=False, allow_unicode=True)
        limit = int(job.submit.max_package_mib * 2**20)
        package = write_package(ROOT, files, {staged: text}, Path(folder) / "project.zip", limit)
        server.submit(
            job_id,
            # `exec`: the signal to stop reaches the run itself, not a shell.
            entrypoint=f"exec python launch.py {verb} {shlex.quote(staged)}",
            runtime_env={"working_dir": str(package.path), "env_vars": environment},
            metadata=identity.metadata(),
            entrypoint_num_cpus=job.submit.cpus,
            entrypoint_num_gpus=job.submit.gpus,
        )
    _tell(outcome, identity, package, environment)
    outcome.seconds["submit"] = time.perf_counter() - begun
    outcome.metrics = {"package/files": package.files, "package/bytes": package.bytes}
    if not job.submit.follow:
        _say(_how_to_go_on(outcome))
        return outcome
    begun = time.perf_counter()
    _follow(server, outcome)
    outcome.seconds["job"] = time.perf_counter() - begun
    return outcome


def _require_lasting_folder(values: dict[str, Any]) -> None:
    runs_dir = str(values.get("runs_dir", "runs"))
    if not runs_dir.startswith(("/", "${")) and "://" not in runs_dir:
        cure = "name storage that every node mounts: --set runs_dir=/mnt/runs"
        raise ConfigError(f"field 'runs_dir' is {runs_dir!r}, which on the cluster is deleted with the job's files", cure)


def _tell(outcome: Outcome, identity: Identity, package: Package, environment: dict[str, str]) -> None:
    _say(
        f"job {outcome.job_id}: {outcome.verb} of run {identity.run!r} on {outcome.address}, {package.files} files "
        f"({human(package.bytes)}), results in {identity.runs_dir}/{identity.run}; variables: {', '.join(environment)}"
    )


def _follow(server: Any, outcome: Outcome) -> None:
    from adray.jobs.follow import Follower

    try:
        ended = Follower(server, outcome.job_id).until_end()
    except JobError as error:
        raise JobError(f"{error.problem}; {_how_to_go_on(outcome)}", error.cure) from None
    if ended is None:
        outcome.status, outcome.exit_code = "RUNNING", INTERRUPTED
        _say(_how_to_go_on(outcome))
        return
    outcome.status = str(ended.status)
    if outcome.status != "SUCCEEDED":
        code = ended.driver_exit_code
        outcome.exit_code = code if code is not None and 0 < code < 256 else JobError.exit_code
        outcome.error = _what_happened(outcome, ended)
    else:
        _say(f"job {outcome.job_id} succeeded")


def _what_happened(outcome: Outcome, ended: Any) -> str:
    again = "mend what its log says and submit again, with --set resume=true to go on from its last checkpoint"
    if outcome.status == "STOPPED":
        return f"job {outcome.job_id} was stopped; submit again, with --set resume=true to go on from its last checkpoint"
    if ended.driver_exit_code is None:
        reason = " ".join((ended.message or "").split())[:300]
        return f"job {outcome.job_id} failed before or beside its run: {reason}; {again}"
    return f"job {outcome.job_id} failed with exit code {ended.driver_exit_code}; {again}"


def _how_to_follow(address: str) -> str:
    return f"RAY_AUTH_MODE=token ray job logs {{}} --follow --address {address}"


def _how_to_go_on(outcome: Outcome) -> str:
    follow = _how_to_follow(outcome.address).format(outcome.job_id)
    return (
        f"job {outcome.job_id} goes on; follow it with `{follow}`, stop it with `{follow.replace('logs', 'stop').replace(' --follow', '')}`"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
