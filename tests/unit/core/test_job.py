"""The table of transitions, and the keys that must not change between attempts."""

import itertools

import pytest

from sfumato.core.job import TRANSITIONS, Job, JobStatus, Settings, image_key
from sfumato.core.request import GenerationRequest, OutputFormat

SETTINGS = Settings("m", 64, 64, 64, 64, 4, 7.0, "euler", seed=2**64 - 1)


def _job(status: JobStatus) -> Job:
    request = GenerationRequest("a castle")
    return Job("j", request, SETTINGS, "default", status, created_at=0, rung_at=0)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobStatus, JobStatus)))
def test_only_the_tables_transitions_are_made(before: JobStatus, after: JobStatus) -> None:
    job = _job(before)
    if after in TRANSITIONS[before]:
        assert job.becoming(after).status is after
    else:
        with pytest.raises(ValueError, match="not a legal transition"):
            job.becoming(after)


def test_finished_are_the_statuses_without_a_way_out() -> None:
    assert {status for status in JobStatus if status.finished} == {
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.CANCELED,
    }


def test_every_status_is_reached_from_queued() -> None:
    reached, frontier = {JobStatus.QUEUED}, [JobStatus.QUEUED]
    while frontier:
        fresh = TRANSITIONS[frontier.pop()] - reached
        reached |= fresh
        frontier += fresh
    assert reached == set(JobStatus)


def test_image_seeds_wrap_at_64_bits() -> None:
    assert SETTINGS.image_seed(0) == 2**64 - 1
    assert SETTINGS.image_seed(1) == 0


def test_a_pictures_key_is_the_same_at_every_attempt() -> None:
    assert image_key("j", 2, OutputFormat.PNG) == "jobs/j/2.png"
    assert image_key("j", 2, OutputFormat.JPEG) == "jobs/j/2.jpg"
