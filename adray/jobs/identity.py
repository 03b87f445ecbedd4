"""Which job a submission is: the same run of the same code has the same id, so it is never started twice by mistake."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adray.config import RunConfig
from adray.errors import JobError

_ENDED_BADLY = frozenset({"FAILED", "STOPPED"})
_HOW_TO_RUN = {"resume", "replace", "runs_dir"}


@dataclass(frozen=True)
class Identity:
    """What makes two submissions the same.

    Attributes:
        verb: The verb.
        run: The run's name.
        runs_dir: Where its folder lies on the cluster.
        digest: Hash of the resolved config and of the code.
    """

    verb: str
    run: str
    runs_dir: str
    digest: str

    @property
    def job_id(self) -> str:
        """Id of the first attempt; later ones have `-2`, `-3`, ... after it."""
        return f"adray-{self.verb}-{self.run}-{self.digest[:10]}"

    def metadata(self) -> dict[str, str]:
        """What is kept with the job, for everyone on the cluster to read."""
        return {"adray_verb": self.verb, "adray_run": self.run, "adray_runs_dir": self.runs_dir, "adray_digest": self.digest}


@dataclass(frozen=True)
class KnownJob:
    """A job that the cluster knows.

    Attributes:
        job_id: Its id.
        status: `PENDING`, `RUNNING`, `STOPPED`, `SUCCEEDED` or `FAILED`.
        metadata: What was kept with it.
    """

    job_id: str
    status: str
    metadata: dict[str, str]


def identify(verb: str, config: RunConfig, code: str, root: Path) -> Identity:
    """Identify a submission. Going on with a run, or starting it afresh, does not make it another.

    Args:
        verb: The verb.
        config: The resolved config.
        code: Hash of the code.
        root: The project's folder; paths inside it count the same wherever it lies.
    """
    values = json.dumps(config.model_dump(mode="json", exclude=_HOW_TO_RUN), sort_keys=True).replace(json.dumps(str(root))[1:-1], ".")
    digest = hashlib.sha256(json.dumps([verb, values, config.runs_dir, code]).encode()).hexdigest()
    return Identity(verb, config.name, config.runs_dir, digest)


def next_id(identity: Identity, config: RunConfig, known: Iterable[KnownJob], how_to_follow: str) -> str:
    """The id to submit under.

    Args:
        identity: What is submitted.
        config: Its resolved config; `replace` allows a run that has succeeded to be submitted again.
        known: The cluster's jobs.
        how_to_follow: The command that shows a job's log, with `{}` for its id.

    Raises:
        JobError: If the run is going on in a job, or has succeeded in one.
    """
    attempts = []
    for job in known:
        of_this_run = all(job.metadata.get(key) == value for key, value in identity.metadata().items() if key != "adray_digest")
        same = job.metadata.get("adray_digest") == identity.digest
        if of_this_run and job.status not in _ENDED_BADLY | {"SUCCEEDED"}:
            but = "" if same else " from another config or code"
            cure = f"follow it with `{how_to_follow.format(job.job_id)}`, or stop it first (`ray job stop`), or choose another name"
            raise JobError(f"job {job.job_id} is {job.status.lower()}: run {identity.run!r} is under way{but}", cure)
        if of_this_run and same:
            attempts.append(job)
    succeeded = next((job for job in attempts if job.status == "SUCCEEDED"), None)
    if succeeded is not None and not config.replace:
        cure = "its results are in its run's folder; choose another name, or --set replace=true to run it afresh"
        raise JobError(f"job {succeeded.job_id} has succeeded with this very config and code", cure)
    taken = {job.job_id for job in attempts}
    number = 1
    while (job_id := identity.job_id + (f"-{number}" if number > 1 else "")) in taken:
        number += 1
    return job_id
