"""When two submissions are the same run, and which id a submission gets."""

from pathlib import Path

import pytest

from adray.config import RunConfig
from adray.errors import JobError
from adray.jobs.identity import Identity, KnownJob, identify, next_id

ROOT = Path("/home/me/project")
FOLLOW = "ray job logs {} --follow"


def config(**fields):
    return RunConfig(**{"kind": "echo", "name": "a", "runs_dir": "/mnt/runs", **fields})


def identity(verb="train", code="c", root=ROOT, **fields):
    return identify(verb, config(**fields), code, root)


def job(status, job_id=None, who=None, **metadata):
    who = who or identity()
    return KnownJob(job_id or who.job_id, status, {**who.metadata(), **metadata})


def test_the_id_names_the_verb_and_the_run():
    assert identity().job_id.startswith("adray-train-a-")
    assert identity() == identity()


def test_verb_config_and_code_make_another_job():
    found = {
        identity(),
        identity(verb="evaluate"),
        identity(code="d"),
        identity(seed=1),
        identity(name="b"),
        identity(runs_dir="/mnt/other"),
    }
    assert len({one.job_id for one in found}) == 6


def test_how_a_run_is_gone_on_with_makes_no_other_job():
    assert identity(resume=True) == identity(replace=True) == identity()


class _WithPath(RunConfig):
    path: str = ""


def test_the_projects_own_folder_does_not_matter():
    here = identify("train", _WithPath(kind="e", name="a", path="/home/me/project/shop.parquet"), "c", ROOT)
    there = identify("train", _WithPath(kind="e", name="a", path="/srv/project/shop.parquet"), "c", Path("/srv/project"))
    assert here.digest == there.digest


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_run_under_way_is_refused_with_how_to_follow_it(status):
    with pytest.raises(JobError) as error:
        next_id(identity(), config(), [job(status)], FOLLOW)
    job_id = identity().job_id
    assert str(error.value).startswith(
        f"job {job_id} is {status.lower()}: run 'a' is under way; follow it with `ray job logs {job_id} --follow`"
    )


def test_a_run_under_way_from_another_config_is_refused_too():
    """Both would write to the same folder."""
    with pytest.raises(JobError, match="under way from another config or code"):
        next_id(identity(seed=1), config(seed=1, resume=True), [job("RUNNING")], FOLLOW)


def test_a_run_of_that_name_elsewhere_is_another():
    other = Identity("train", "a", "/mnt/theirs", "d")
    assert next_id(identity(), config(), [job("RUNNING", who=other), KnownJob("raysubmit_x", "RUNNING", {})], FOLLOW) == identity().job_id


def test_what_has_succeeded_is_refused_unless_it_is_to_be_replaced():
    with pytest.raises(JobError, match=f"job {identity().job_id} has succeeded with this very config and code; .*--set replace=true"):
        next_id(identity(), config(resume=True), [job("SUCCEEDED")], FOLLOW)
    assert next_id(identity(), config(replace=True), [job("SUCCEEDED")], FOLLOW) == f"{identity().job_id}-2"
    assert next_id(identity(seed=1), config(seed=1), [job("SUCCEEDED")], FOLLOW) == identity(seed=1).job_id


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_what_ended_badly_may_be_submitted_again_under_a_numbered_id(status):
    assert next_id(identity(), config(), [], FOLLOW) == identity().job_id
    assert next_id(identity(), config(), [job(status)], FOLLOW) == f"{identity().job_id}-2"
    again = [job(status), job(status, f"{identity().job_id}-2")]
    assert next_id(identity(), config(), again, FOLLOW) == f"{identity().job_id}-3"
