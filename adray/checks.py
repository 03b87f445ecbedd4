"""Pre-flight checks: each finds one thing that would stop a run, before anything slow starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adray.errors import AdrayError


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: What was checked, e.g. `data readable`.
        detail: What was found, with figures.
        error: What is wrong and its cure; None when all is well.
    """

    name: str
    detail: str
    error: AdrayError | None = None


def raise_first(checks: Iterable[Check]) -> list[Check]:
    """Run the checks; raise the first error.

    Returns:
        All outcomes, when none failed.

    Raises:
        AdrayError: The first failing check's error.
    """
    done = []
    for check in checks:
        if check.error is not None:
            raise check.error
        done.append(check)
    return done
