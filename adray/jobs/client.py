"""Ray's job server as adray speaks to it: every wait bounded, every failure one typed line."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from adray.errors import JobError
from adray.jobs.address import SERVER_VARIABLE
from adray.jobs.identity import KnownJob

ANSWER_S = 30
"""Seconds within which the server must connect, and go on answering."""
_TUNNEL = "is the head up, and the port open to you? A dashboard on 127.0.0.1 is reached through `ssh -L 8265:127.0.0.1:8265 HEAD`"


class _BoundedClient(JobSubmissionClient):
    """Ray's client with a time limit on every request; by itself it would wait for ever."""

    def _do_request(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super()._do_request(*args, timeout=ANSWER_S, **kwargs)


class JobServer:
    """A connection to a cluster's job server.

    Args:
        address: `http(s)://HOST[:PORT]`, checked.

    Raises:
        JobError: If it cannot be reached, is no job server, or refuses the token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        # Ray prefers this variable, and RAY_ADDRESS, to the address that it is given.
        os.environ[SERVER_VARIABLE] = address
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._one_line():
            self._client = _BoundedClient(address)

    def jobs(self) -> list[KnownJob]:
        """All jobs that were submitted to the cluster, as far back as it remembers."""
        with self._one_line():
            found = self._client.list_jobs()
        return [KnownJob(job.submission_id, str(job.status), dict(job.metadata or {})) for job in found if job.submission_id]

    def submit(self, job_id: str, **options: Any) -> None:
        """Submit a job; `options` are those of Ray's `submit_job`.

        Raises:
            JobError: If the cluster refuses it, or has one of this id.
        """
        with self._one_line():
            try:
                self._client.submit_job(submission_id=job_id, **options)
            except RuntimeError as error:
                if "already exists" in str(error):
                    raise JobError(f"job {job_id} was submitted at this very moment by someone else", "follow that one") from None
                raise

    def info(self, job_id: str) -> JobDetails:
        """What the cluster says of a job now."""
        with self._one_line():
            return self._client.get_job_info(job_id)

    def stop(self, job_id: str) -> None:
        """Tell a job to end; it is killed if it has not after its `submit.stop_wait_s`."""
        with self._one_line():
            self._client.stop_job(job_id)

    def log(self, job_id: str) -> AsyncIterator[str]:
        """A job's log from its beginning, as it grows, in pieces."""
        return self._client.tail_job_logs(job_id)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except AuthenticationError as error:
            raise self._token_error(error) from None
        except (ConnectionError, requests.exceptions.ConnectionError) as error:
            if isinstance(error, requests.exceptions.SSLError) or isinstance(error.__context__, requests.exceptions.SSLError):
                problem = f"{self.address} speaks no TLS, or its certificate is not trusted"
                raise JobError(problem, "write http:// through a tunnel, or name the authority's file in REQUESTS_CA_BUNDLE") from None
            raise JobError(f"no job server answers at {self.address}", _TUNNEL) from None
        except requests.exceptions.Timeout:
            raise JobError(f"{self.address} does not answer within {ANSWER_S} s", _TUNNEL) from None
        except (requests.exceptions.RequestException, KeyError, ValueError):
            # An answer that is no JSON, or without a version: something else listens there.
            raise JobError(f"what answers at {self.address} is not Ray's job server", "name the head's dashboard port (8265)") from None
        except RuntimeError as error:
            if "returned 404" in str(error):
                raise JobError(f"what answers at {self.address} is not Ray's job server", "name the head's dashboard port (8265)") from None
            raise JobError(f"the cluster at {self.address} refused: {_last_line(error)}", "see the head's logs") from None

    def _token_error(self, error: AuthenticationError) -> JobError:
        if error.message.startswith("Authentication required"):
            cure = "export RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, or put it in ~/.ray/auth_token"
            if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
                cure = "unset RAY_AUTH_MODE, which is 'disabled'"
            return JobError(f"the cluster at {self.address} asks for a token, and none was shown", cure)
        cure = "export the cluster's own as RAY_AUTH_TOKEN (`ray get-auth-token` prints it on the head)"
        return JobError(f"the cluster at {self.address} refused the token", cure)


def _last_line(error: Exception) -> str:
    """The end of an answer that may be a whole remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
