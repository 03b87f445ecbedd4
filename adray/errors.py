"""The error tree: one line for the user, one exit code for the shell.

Every error a user can cause is an `AdrayError`. Its text names the field or file, the value and the cure.
`launch.py` prints it without a traceback and exits with the class's `exit_code`.
"""

from __future__ import annotations

from typing import ClassVar

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the signal's number, as shells have it."""


class AdrayError(Exception):
    """Base of every error that is the user's to mend.

    Args:
        problem: What is wrong, naming the field or file and the value.
        cure: What to do about it; appended after a semicolon.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, cure: str = "") -> None:
        # Both go to `args` so that the error survives pickling between Ray processes.
        super().__init__(problem, cure)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        text = f"{self.problem}; {self.cure}" if self.cure else self.problem
        return " ".join(text.split())


class ConfigError(AdrayError):
    """A config file, an override or a combination of settings is wrong."""

    exit_code = 2


class RunExistsError(ConfigError):
    """A run of this name exists and neither `resume` nor `replace` was asked for."""


class DataError(AdrayError):
    """A table cannot be read, breaks its schema, or too many of its rows were quarantined."""

    exit_code = 3


class ArtifactError(AdrayError):
    """An artifact is missing, damaged, of another kind, or of a format this version cannot read."""

    exit_code = 4


class ResourceError(AdrayError):
    """CPUs, GPUs, memory, disk or a port that the run needs cannot be had."""

    exit_code = 5


class TrainingError(AdrayError):
    """Training stopped: a loss that is not finite, a worker lost for good, a checkpoint that cannot be resumed."""

    exit_code = 6


class ServingError(AdrayError):
    """A deployment could not be started or is not healthy."""

    exit_code = 7


class JobError(AdrayError):
    """A job could not be handed to the cluster, is there already, or did not succeed."""

    exit_code = 8
