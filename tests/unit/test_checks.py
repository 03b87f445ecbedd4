"""Checks: the first error is raised, the rest is not looked at."""

from __future__ import annotations

import pytest

from adray.checks import Check, raise_first
from adray.errors import DataError


def test_the_first_error_is_raised_and_later_checks_are_not_made():
    made = []

    def checks():
        for name in "abc":
            made.append(name)
            yield Check(name, "", DataError(name) if name != "a" else None)

    with pytest.raises(DataError, match="b"):
        raise_first(checks())
    assert made == ["a", "b"]


def test_all_outcomes_are_returned_when_none_failed():
    assert [c.name for c in raise_first(Check(n, "") for n in "ab")] == ["a", "b"]
