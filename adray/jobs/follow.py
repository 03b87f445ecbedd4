"""A job's log on the terminal until the job ends, whatever the connection does meanwhile, and what Ctrl-C does there."""

from __future__ import annotations

import asyncio
import signal
import sys

import aiohttp
from ray.job_submission import JobDetails, JobStatus

from adray.errors import JobError
from adray.jobs.client import JobServer

_LOOK_EVERY_S = 5.0
_LOOKS_LOST = 12
"""Looks in a row that may fail, a minute and more, before the cluster is given up."""
_LAST_LINES_S = 10.0
_WAITING_TOLD_S = 30.0


class Follower:
    """Prints a job's log once, even when the connection breaks and the log is sent again from its beginning.

    Args:
        server: The job server.
        job_id: The job.
    """

    def __init__(self, server: JobServer, job_id: str) -> None:
        self._server = server
        self._job_id = job_id
        self._printed = 0
        self._waited = 0.0
        self._lost = 0

    def until_end(self) -> JobDetails | None:
        """Follow the job to its end. To be called in the main thread, where signals arrive.

        Returns:
            What the cluster says of the ended job; None if an interrupt detached from it and it goes on.

        Raises:
            JobError: If the cluster cannot be reached for a minute. The job may well go on.
        """
        return asyncio.run(self._until_end())

    async def _until_end(self) -> JobDetails | None:
        # A handler for the whole time: an interrupt that is raised as an exception can get lost where none may be raised.
        interrupted = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
        self._may_print = asyncio.Event()
        self._may_print.set()
        log = asyncio.create_task(self._print_log())
        try:
            while True:
                await _first(log, interrupted)
                if interrupted.is_set() and not await self._goes_on(interrupted):
                    return None
                job = await self._look()
                if job is not None and job.status.is_terminal():
                    await asyncio.wait({log}, timeout=_LAST_LINES_S)
                    return job
                if log.done():
                    # The connection broke while the job goes on.
                    await asyncio.sleep(1)
                    log = asyncio.create_task(self._print_log())
        finally:
            log.cancel()

    async def _look(self) -> JobDetails | None:
        """What the cluster says of the job; None if it does not answer this time."""
        try:
            # In a thread, since Ray's client blocks.
            job = await asyncio.to_thread(self._server.info, self._job_id)
        except JobError:
            self._lost += 1
            if self._lost == _LOOKS_LOST:
                raise
            await asyncio.sleep(_LOOK_EVERY_S)
            return None
        self._lost = 0
        if job.status == JobStatus.PENDING:
            if self._waited < _WAITING_TOLD_S <= self._waited + _LOOK_EVERY_S:
                _say(f"job {self._job_id} is pending: {' '.join((job.message or '').split())}")
            self._waited += _LOOK_EVERY_S
        return job

    async def _print_log(self) -> None:
        seen = 0
        try:
            async for piece in self._server.log(self._job_id):
                await self._may_print.wait()
                new = piece[max(self._printed - seen, 0) :]
                seen += len(piece)
                if new:
                    self._printed = seen
                    sys.stdout.write(new)
                    sys.stdout.flush()
        except (RuntimeError, aiohttp.ClientError, OSError) as error:
            _say(f"the log's connection broke ({type(error).__name__}); looking at the job itself")

    async def _goes_on(self, interrupted: asyncio.Event) -> bool:
        """Do what the person at the terminal wants; False to detach. Nobody there means to detach."""
        interrupted.clear()
        self._may_print.clear()
        answer = await _ask(interrupted)
        self._may_print.set()
        if answer == "s":
            await asyncio.to_thread(self._server.stop, self._job_id)
            _say(f"job {self._job_id} was told to stop")
        elif answer == "f":
            _say(f"following job {self._job_id} again")
        return answer in ("s", "f")


async def _first(log: asyncio.Task[None], interrupted: asyncio.Event) -> None:
    """Wait until the log has ended, an interrupt came, or it is time for a look."""
    interrupt = asyncio.create_task(interrupted.wait())
    await asyncio.wait({log, interrupt}, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
    interrupt.cancel()


async def _ask(interrupted: asyncio.Event) -> str:
    """`s`, `d` or `f`; interrupted again, or without a terminal, it is `d`."""
    if not sys.stdin.isatty():
        return "d"
    sys.stderr.write("\n[s]top the job, [d]etach and let it go on, or [f]ollow it again? ")
    sys.stderr.flush()
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    # A terminal has a whole line when it has anything.
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        tasks = {asyncio.create_task(event.wait()) for event in (typed, interrupted)}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    answer = sys.stdin.readline().strip().lower()[:1] if typed.is_set() and not interrupted.is_set() else "d"
    return answer if answer in ("s", "f") else "d"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
