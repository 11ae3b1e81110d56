"""Jobs for tests of stores, and where a suite for stores gets the store from."""

from __future__ import annotations

from typing import Any

import pytest

from sfumato.core.ids import new_job_id
from sfumato.core.job import ImageRecord, Job, JobStatus, Settings
from sfumato.core.ports import JobStore
from sfumato.core.request import GenerationRequest

SETTINGS = Settings("m", 64, 64, 64, 64, 4, 7.0, "euler", seed=2**64 - 1)
IMAGE = ImageRecord(0, "jobs/x/0.png", "image/png", 64, 64, 3, "ab" * 32, seed=2**64 - 1)


def new_job(at: float = 100.0, *, prompt: str = "a castle", runtime: str = "r", **more: Any) -> Job:
    request = GenerationRequest(prompt, **more)
    job_id = new_job_id(at)
    return Job(job_id, request, SETTINGS, runtime, JobStatus.QUEUED, created_at=at, rung_at=at)


async def claimed(store: JobStore, job: Job, *, worker: str = "w", at: float = 101.0) -> Job:
    won = await store.claim(job.id, worker=worker, now=at, lease_until=at + 30)
    assert won is not None
    return won


async def kinds(store: JobStore, job: Job) -> list[str]:
    return [event.kind.value for event in await store.events(job.id)]


class StoreSuite:
    """``elsewhere`` is the same store as another process would open it, where there is such a thing."""

    @pytest.fixture
    async def store(self) -> JobStore:
        raise NotImplementedError

    @pytest.fixture
    async def elsewhere(self, store: JobStore) -> JobStore:
        return store
