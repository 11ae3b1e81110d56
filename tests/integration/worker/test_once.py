"""A one-shot worker claims before it makes its engine, and makes none without a job."""

from __future__ import annotations

import asyncio

from sfumato.core.job import JobStatus
from sfumato.core.ports import ImageEngine
from sfumato.engine.fake import FakeEngine
from sfumato.worker.loop import Worker
from tests.support.parts import House, open_house


def one_shot(house: House, made: list[str]) -> Worker:
    def make_engine() -> ImageEngine:
        jobs = house.store._jobs.values()  # type: ignore[attr-defined]  # from another thread
        made.extend(job.status.value for job in jobs)
        return FakeEngine()

    return Worker(
        assignments=house.execution(),
        make_engine=make_engine,
        clock=house.clock,
        started_at=house.clock.now(),
        once=True,
    )


async def test_it_claims_first() -> None:
    async with open_house() as house:
        job, rest = await house.submit(), await house.submit()
        made: list[str] = []
        await one_shot(house, made).run()
        assert sorted(made) == ["queued", "running"]
        assert (await house.store.get(job.id)).status is JobStatus.SUCCEEDED
        assert (await house.store.get(rest.id)).status is JobStatus.QUEUED


async def test_without_a_job_it_makes_no_engine() -> None:
    async with open_house() as house:
        made: list[str] = []
        await one_shot(house, made).run()
        assert made == []


async def test_told_to_stop_while_it_waits_it_ends() -> None:
    async with open_house() as house:
        made: list[str] = []
        worker = one_shot(house, made)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0)
        worker.drain()
        await running
        assert made == []
