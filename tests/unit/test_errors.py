"""The error tree: one line, one exit code each, and errors that survive a process boundary."""

from __future__ import annotations

import pickle

import pytest

from adray import errors
from adray.errors import AdrayError, ConfigError, DataError, RunExistsError

TREE = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AdrayError)]


def test_text_is_one_line_of_problem_and_cure():
    error = DataError("table a.parquet has no\n  column 'x'", "add it")
    assert str(error) == "table a.parquet has no column 'x'; add it"
    assert str(DataError("just this")) == "just this"


@pytest.mark.parametrize("cls", TREE, ids=lambda c: c.__name__)
def test_every_error_survives_pickling(cls):
    error = pickle.loads(pickle.dumps(cls("field 'a' is 3", "make it 4")))
    assert type(error) is cls
    assert (error.problem, error.cure) == ("field 'a' is 3", "make it 4")


def test_exit_codes_tell_the_classes_apart():
    codes = {cls.__name__: cls.exit_code for cls in TREE}
    assert codes.pop("RunExistsError") == ConfigError.exit_code
    assert codes == {
        "AdrayError": 1,
        "ConfigError": 2,
        "DataError": 3,
        "ArtifactError": 4,
        "ResourceError": 5,
        "TrainingError": 6,
        "ServingError": 7,
        "JobError": 8,
    }
    assert issubclass(RunExistsError, ConfigError)
